"""Tokens per second when few completions are long: rows that have ended leave, against all rows to the end.

    taskset -c 1 python -m benchmarks.long_tail
    PYTHONPATH=CHECKOUT python benchmarks/long_tail.py --all     # an older checkout, where no row leaves

A row in 20 reaches the limit; the others have lengths of a geometric distribution, whose median is a tenth of the
limit. Lengths are forced, by a random number of each row and token in place of what the model says. `--all` forces
nothing: every row is decoded to the limit, as without leaving, and the tokens counted are those of `lengths`. Prints
seconds of CPU of each round after one that compiles, and the tokens of rows per second.
"""

import argparse
import time
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.distributed import sharding
from mig_jax.models import decoder, sampler
from mig_jax.policy.generate import Sampler

STOP, PAD = 1, 0


def force_lengths(hazard: float, tail: int) -> None:
    """Make the sampler stop each token of a row with probability `hazard`, but never a row of `tail`."""
    random_numbers, draw = sampler._random_numbers, sampler.draw_tokens

    def with_hazard(key: jax.Array, row_b: jax.Array) -> jax.Array:
        uniform_b2 = random_numbers(key, row_b)
        stops_b = (uniform_b2[:, 0] < hazard) & (row_b % tail != 0)
        return jnp.concatenate([uniform_b2, stops_b[:, None]], axis=1)

    def draw_or_stop(logit_bv: jax.Array, uniform_b3: jax.Array) -> tuple[jax.Array, jax.Array]:
        token_b, logprob_b = draw(logit_bv, uniform_b3[:, :2])
        return jnp.where(uniform_b3[:, 2] > 0, STOP, jnp.maximum(token_b, STOP + 1)), logprob_b

    sampler._random_numbers, sampler.draw_tokens = with_hazard, draw_or_stop


def draw_lengths(args: argparse.Namespace, hazard: float) -> np.ndarray:
    """Return lengths `[B]` of the same distribution, in tokens."""
    length_b = np.random.default_rng(0).geometric(hazard, args.rows)
    length_b[:: args.tail] = args.limit
    return np.minimum(length_b, args.limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "rows": 64, "limit": 1024, "tail": 20, "layers": 2, "width": 128, "vocab": 512, "rounds": 2,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--all", action="store_true", help="decode every row to the limit")
    args = parser.parse_args()
    if args.rows % 8:
        parser.error("--rows must be a multiple of 8, the samples of a prompt")
    hazard = 1 - 0.5 ** (10 / args.limit)
    if not args.all:
        force_lengths(hazard, args.tail)
    heads = max(1, args.width // 64)
    config = decoder.DecoderConfig(
        vocab_size=args.vocab, width=args.width, layers=args.layers, heads=heads, kv_heads=max(1, heads // 2),
        head_size=64, mlp_width=3 * args.width,
    )  # fmt: skip
    # --all stops at no id of the vocabulary.
    tokenizer = SimpleNamespace(pad_id=PAD, eos_ids=(args.vocab if args.all else STOP,))
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    policy: Any = SimpleNamespace(config=config, tokenizer=tokenizer, is_token_v=None, mesh=mesh)
    params = decoder.init_params(config, jax.random.key(0))
    prompts = sampler.Prompts(jnp.full((args.rows // 8, 64), 7, jnp.int32), jnp.zeros(args.rows // 8, jnp.int32))
    sample = Sampler(policy, group_size=8, max_new_tokens=args.limit, temperature=1.0, kv_cache_chunks=1)
    with jax.set_mesh(mesh):
        for n in range(1 + args.rounds):
            start = time.process_time()
            completions = jax.block_until_ready(sample(params, prompts, jax.random.key(0)))
            seconds = time.process_time() - start
            length_b = draw_lengths(args, hazard) if args.all else np.asarray(completions.length_b)
            if n:
                tokens = int(length_b.sum())
                print(f"{tokens} tokens, median {np.median(length_b):.0f}, {seconds:.2f} s, {tokens / seconds:.0f} / s")


if __name__ == "__main__":
    main()
