"""Time of a layer of experts in the forms that compute the same: grouped products, and two that compute more.

    python benchmarks/experts.py                    # --tokens=8,64,512,4096 --experts=64 --chosen=8 …

blocks: `grouped_matmul` off TPUs, a loop over blocks of rows of one expert. ragged: `jax.lax.ragged_dot`, which XLA
computes group by group on TPUs; elsewhere it multiplies every row by the matrices of all experts. all: every expert for
every token, and a weighted sum. Each round times all forms in turn; printed are medians in milliseconds, and ratios to
blocks. "+ gradient" is forward and backward.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from mig_jax.models import experts
from mig_jax.models.experts import Experts, ExpertsConfig
from mig_jax.models.layers import Initializer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="8,64,512,4096", help="numbers of tokens, separated by commas")
    for name, value in {"experts": 64, "chosen": 8, "width": 256, "expert_width": 96, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    config = ExpertsConfig(args.experts, args.chosen, args.expert_width, is_normalized=True)
    layer = Experts(config, args.width, Initializer(nnx.Rngs(0), "float32"))
    print(f"{'tokens':>7} {'':12} " + " ".join(f"{name:>16}" for name in FORMS))
    for tokens in map(int, args.tokens.split(",")):
        x_btd = jax.random.normal(jax.random.key(1), (1, tokens, args.width))
        for label, with_gradient in (("forward", False), ("+ gradient", True)):
            compiled = {name: compile_form(form, layer, x_btd, with_gradient) for name, form in FORMS.items()}
            seconds = time_in_turns(compiled, args.rounds)
            row = " ".join(f"{1e3 * s:9.2f} {s / seconds['blocks']:5.1f}×" for s in seconds.values())
            print(f"{tokens:7} {label:12} {row}", flush=True)


def compute_all(layer: Experts, x_btd: jax.Array) -> jax.Array:
    """Return the outputs of the layer from every expert of every token."""
    prob_bte = jax.nn.softmax(jnp.einsum("btd,de->bte", x_btd, layer.router[...]), axis=-1)
    weight_btc, expert_btc = jax.lax.top_k(prob_bte, layer.config.per_token)
    chosen_btce = jax.nn.one_hot(expert_btc, layer.config.count)
    weight_bte = jnp.einsum("btc,btce->bte", weight_btc / weight_btc.sum(-1, keepdims=True), chosen_btce)
    gate, up = (jnp.einsum("btd,edf->btef", x_btd, w[...]) for w in (layer.gate, layer.up))
    return jnp.einsum("btef,bte,efd->btd", jax.nn.silu(gate) * up, weight_bte, layer.down[...])


def compute_ragged(layer: Experts, x_btd: jax.Array) -> jax.Array:
    """Return the outputs of the layer with `jax.lax.ragged_dot` in place of `grouped_matmul`."""
    ours = experts.grouped_matmul
    experts.grouped_matmul = jax.lax.ragged_dot
    try:
        return layer(x_btd)[0]
    finally:
        experts.grouped_matmul = ours


FORMS: dict[str, Callable[[Experts, jax.Array], jax.Array]] = {
    "blocks": lambda layer, x_btd: layer(x_btd)[0],
    "ragged": compute_ragged,
    "all": compute_all,
}


def compile_form(form: Callable, layer: Experts, x_btd: jax.Array, with_gradient: bool) -> Callable[[], None]:
    """Return a function that runs a form once, which has been compiled and has run."""
    graphdef, params = nnx.split(layer)

    def forward(params, x_btd):
        return form(nnx.merge(graphdef, params), x_btd).sum()

    run = jax.jit(jax.value_and_grad(forward) if with_gradient else forward)
    call = functools.partial(lambda run: jax.block_until_ready(run(params, x_btd)), run)
    call()
    return call


def time_in_turns(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each call; all are called once in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
