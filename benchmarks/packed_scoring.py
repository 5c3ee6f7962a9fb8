"""How much faster are packed probes than one forward for each prefix and spelling?

    python benchmarks/packed_scoring.py

One model with random weights, one response; all three ways are compiled first, give the same ℓ, and take turns on the
clock. Sequences of the loop are as short as they can be (unpadded), which favours the loop.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax import rewards
from mig_jax.models import decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "prompt": 150, "response": 400, "steps": 16, "variants": 4, "answer": 8, "lead_in": 4, "closing": 1,
        "layers": 8, "width": 512, "rounds": 5,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    config = decoder.DecoderConfig(
        vocab_size=8192, width=args.width, layers=args.layers, heads=args.width // 64, kv_heads=args.width // 128,
        head_size=64, mlp_width=3 * args.width, qkv_bias=True,
    )  # fmt: skip
    params = decoder.init_params(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    slots = args.prompt + args.response
    token_s = rng.integers(0, config.vocab_size, slots)
    lead_in, closing = (rng.integers(0, config.vocab_size, n).tolist() for n in (args.lead_in, args.closing))
    spellings = [rng.integers(0, config.vocab_size, args.answer).tolist() for _ in range(args.variants)]
    cut_k = np.linspace(args.prompt, slots, args.steps + 1).astype(int)

    answers = rewards.pack_answers(lead_in, spellings, closing, max_variants=args.variants, max_tokens=args.answer)
    batched = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)  # noqa: E731
    trunk = batched(rewards.Trunk(np.arange(slots), np.ones(slots, bool)))
    cuts = batched(rewards.Cuts(cut_k, np.ones(len(cut_k), bool)))
    answers, tokens = batched(answers), batched(token_s)

    @jax.jit
    def packed(params):
        model = decoder.bind(config, params)
        return rewards.score_packed(model, model.unembed_dv(), tokens, trunk, cuts, answers)[0][0]

    @jax.jit
    def on_cache(params, cache):
        model = decoder.bind(config, params)
        return rewards.score_on_cache(model, model.unembed_dv(), (cache,), trunk, cuts, answers)[0]

    @jax.jit
    def prefill(params):
        model = decoder.bind(config, params)
        return model(tokens, trunk.position_s, trunk.valid_s)[1]

    @jax.jit
    def one_sequence(params, token_t):
        """Mean log-prob of the answer and closing tag at the end of one sequence."""
        model = decoder.bind(config, params)
        length, scored = token_t.shape[0], args.answer + args.closing
        valid = jnp.ones((1, length - 1), bool)
        hidden, _ = model(token_t[None, :-1], jnp.arange(length - 1)[None], valid)
        logprob, _ = rewards.token_logprobs(hidden[0, -scored:], model.unembed_dv(), token_t[-scored:])
        return logprob.mean()

    sequences = [
        [jnp.array([*token_s[:cut], *lead_in, *spelling, *closing]) for spelling in spellings] for cut in cut_k
    ]

    def loop(params):
        return jnp.stack([jnp.stack([one_sequence(params, s) for s in of_cut]).max() for of_cut in sequences])

    cache = prefill(params)
    ways = {"loop": lambda: loop(params), "packed": lambda: packed(params), "on cache": lambda: on_cache(params, cache)}
    ell = {name: np.array(way()) for name, way in ways.items()}
    for name in ("packed", "on cache"):
        np.testing.assert_allclose(ell[name], ell["loop"], atol=1e-4)

    seconds = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(way())
            seconds[name].append(time.perf_counter() - start)
    n_weights = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    print(f"{n_weights:.0f}M weights, {args} on {jax.devices()[0].device_kind}")
    for name in ("packed", "on cache"):
        ratios = [a / b for a, b in zip(seconds["loop"], seconds[name], strict=True)]
        print(f"loop / {name:9} {statistics.median(ratios):6.1f}   ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
