"""Speed of packed probes, relative to one forward pass for each prefix and variant of the answer.

    python benchmarks/packed_scoring.py

One model with random parameters scores one response in three ways. All are compiled before, give the same ℓ, and are
timed in turns. The sequences of the loop are not padded, which favors the loop.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax import rewards
from mig_jax.models import decoder


class Inputs(NamedTuple):
    """A response and the variants of an answer, as random ids.

    token_s: `[S]` prompt and response.
    cut_k: `[K+1]` where the response is probed.
    lead_in, closing: ids before and after each variant.
    variants: ids of each variant.
    """

    token_s: np.ndarray
    cut_k: np.ndarray
    lead_in: list[int]
    closing: list[int]
    variants: list[list[int]]


def draw_inputs(args: argparse.Namespace, vocab_size: int) -> Inputs:
    """Draw random ids with the sizes of the command line; cuts are evenly spaced."""
    rng = np.random.default_rng(0)
    slots = args.prompt + args.response
    token_s = rng.integers(0, vocab_size, slots)
    lead_in, closing = (rng.integers(0, vocab_size, n).tolist() for n in (args.lead_in, args.closing))
    variants = [rng.integers(0, vocab_size, args.answer).tolist() for _ in range(args.variants)]
    cut_k = np.linspace(args.prompt, slots, args.steps + 1).astype(int)
    return Inputs(token_s, cut_k, lead_in, closing, variants)


def make_loop(config: decoder.DecoderConfig, params: Any, inputs: Inputs) -> Callable[[], jax.Array]:
    """Return a function that computes ℓ with one forward pass for each cut and variant."""
    scored = len(inputs.variants[0]) + len(inputs.closing)

    @jax.jit
    def score_sequence(params, token_t):
        """Return the mean log-prob of the answer and closing tag at the end of one sequence."""
        model = decoder.bind(config, params)
        length = token_t.shape[0]
        valid = jnp.ones((1, length - 1), bool)
        hidden, _ = model(token_t[None, :-1], jnp.arange(length - 1)[None], valid)
        logprob, _ = rewards.token_logprobs(hidden[0, -scored:], model.unembed_dv(), token_t[-scored:])
        return logprob.mean()

    sequences = [
        [jnp.array([*inputs.token_s[:cut], *inputs.lead_in, *variant, *inputs.closing]) for variant in inputs.variants]
        for cut in inputs.cut_k
    ]
    return lambda: jnp.stack(
        [jnp.stack([score_sequence(params, token_t) for token_t in of_cut]).max() for of_cut in sequences]
    )


def make_packed(
    config: decoder.DecoderConfig, params: Any, inputs: Inputs
) -> tuple[Callable[[], jax.Array], Callable[[], jax.Array]]:
    """Return two functions that compute ℓ with packed probes: with the trunk, and on a KV cache of the trunk."""
    answers = rewards.pack_answers(
        inputs.lead_in,
        inputs.variants,
        [inputs.closing],
        max_variants=len(inputs.variants),
        max_tokens=len(inputs.variants[0]),
        terminator="tag",
    )
    slots, cuts = len(inputs.token_s), len(inputs.cut_k)
    trunk = rewards.Trunk(np.arange(slots), np.ones(slots, bool))
    batch = inputs.token_s, trunk, rewards.Cuts(inputs.cut_k, np.ones(cuts, bool)), answers
    token_bs, trunk, cuts, answers = jax.tree.map(lambda x: jnp.asarray(x)[None], batch)

    @jax.jit
    def score_packed(params):
        model = decoder.bind(config, params)
        return rewards.score_packed(model, model.unembed_dv(), token_bs, trunk, cuts, answers, share_lead_in=True)[0][0]

    @jax.jit
    def score_on_cache(params, cache):
        model = decoder.bind(config, params)
        batch = trunk, cuts, answers
        return rewards.score_on_cache(model, model.unembed_dv(), (cache,), *batch, share_lead_in=True)[0]

    @jax.jit
    def prefill(params):
        return decoder.bind(config, params)(token_bs, trunk.position_s, trunk.valid_s)[1]

    cache = prefill(params)
    return lambda: score_packed(params), lambda: score_on_cache(params, cache)


def time_in_turns(functions: dict[str, Callable[[], jax.Array]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call, by function."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return seconds


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
    inputs = draw_inputs(args, config.vocab_size)
    packed, on_cache = make_packed(config, params, inputs)
    functions = {"loop": make_loop(config, params, inputs), "packed": packed, "on cache": on_cache}
    ell = {name: np.array(function()) for name, function in functions.items()}
    for name in ("packed", "on cache"):
        np.testing.assert_allclose(ell[name], ell["loop"], atol=1e-4)

    seconds = time_in_turns(functions, args.rounds)
    n_params = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    print(f"{n_params:.0f}M parameters, {args} on {jax.devices()[0].device_kind}")
    for name in ("packed", "on cache"):
        ratios = [a / b for a, b in zip(seconds["loop"], seconds[name], strict=True)]
        print(f"loop / {name:9} {statistics.median(ratios):6.1f}   ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
