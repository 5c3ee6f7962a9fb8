"""How far each part of a step is from what the machine must do: FLOPs and bytes over rates of the same shapes.

    python -m benchmarks.floor
    python -m benchmarks.floor --vocab=151936 --questions=1 --group_size=8

The parts are those of `step_cost.py`, of its MIG step: sampling, the log-probs of what was sampled (the forward pass of
the KL reference), scoring and the update. What must be computed is counted by formula, without padding:

    floor = matrices of the layers + logits + exponentials of the logits + attention + memory that must move

Each term is an amount over a rate, and rates are measured here, in turns with the parts: the matrices of one layer and
the output matrix at the number of tokens that the part has at once, exp of an array of logits, the two products of
attention, and reading as many bytes as the KV cache has. A backward pass counts as two forward ones. Decoding must read
the KV cache for each token; an update must read parameters and gradients, and read and write Adam's moments. Prints
seconds of wall clock, and ratios to the floor by wall clock and by CPU time: the second depends less on what else the
machine does. `taskset -c 0` gives it one core.
"""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import step_cost
from mig_jax.aot.flops import Work, count_matrix_params
from mig_jax.distributed import sharding
from mig_jax.models.decoder import DecoderConfig
from mig_jax.policy.load import load_policy
from mig_jax.text.answers.verifier import Verifier

PARTS = ("sampling", "log-probs", "scoring", "update")
# FLOPs, exponentials or bytes of one call of a program that measures a rate, at least.
LEAST = {"matrices": 2e9, "logits": 2e9, "exp": 2e7, "attention": 5e8, "memory": 5e8}
TERMS = ("matrices", "logits", "exp", "attention", "memory")


class Seconds(NamedTuple):
    """wall: of the clock; cpu: of all threads together."""

    wall: float
    cpu: float


def measure(function: Callable[[], Any]) -> Seconds:
    """Return the seconds of one call; what it returns is waited for."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(function())
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median(laps: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(values) for values in zip(*laps, strict=True)))


@dataclasses.dataclass(frozen=True)
class Amounts:
    """What a part must do.

    work: tokens, pairs and logits of a forward pass.
    at_once: tokens that pass through the layers together.
    logits_at_once: tokens whose logits are computed together.
    passes: 1, or 3 with a backward pass.
    memory_nbytes: bytes that must move besides the operands of matrix products.
    """

    work: Work
    at_once: int
    logits_at_once: int
    passes: int = 1
    memory_nbytes: float = 0.0


def count_amounts(args: argparse.Namespace, shape: DecoderConfig, probe: int) -> dict[str, Amounts]:
    """Return what each part must do; `probe` is the tokens of a probe, those that are no targets included."""
    rows, prompt, response = args.questions * args.group_size, args.prompt, args.response
    causal = functools.partial(lambda start, end: (end * (end + 1) - start * (start + 1)) / 2)
    prefill = Work(args.questions * prompt, args.questions * causal(0, prompt))
    decode = Work(rows * response, rows * causal(prompt, prompt + response), rows * response)
    cache_nbytes = 2 * 4 * shape.layers * shape.kv_heads * shape.head_size
    whole = Work(rows * (prompt + response), rows * causal(0, prompt + response), rows * response)
    leaves = (rows * args.steps + args.questions) * args.variants
    scored = args.answer + 1
    seen = prompt + response / 2
    score = Work(leaves * probe, leaves * (probe * seen + causal(0, probe)), leaves * scored)
    large = min(rows * (prompt + response), 4096)
    parameters = 4 * (shape.layers * count_matrix_params(shape).layers // shape.layers + shape.vocab_size * shape.width)
    return {
        "sampling": Amounts(
            Work(*(a + b for a, b in zip(dataclasses.astuple(prefill), dataclasses.astuple(decode), strict=True))),
            rows, rows, memory_nbytes=cache_nbytes * decode.pairs,
        ),
        "log-probs": Amounts(whole, large, large),
        "scoring": Amounts(score, large, large),
        "update": Amounts(whole, large, large, passes=3, memory_nbytes=7 * parameters),
    }  # fmt: skip


class Rates:
    """Programs that do one kind of work alone, and the seconds of each for a given amount.

    Args:
      shape: of the model.
      args: of the command line.
    """

    def __init__(self, shape: DecoderConfig, args: argparse.Namespace):
        self.shape, self.slots = shape, args.prompt + args.response
        self.rows = args.questions * args.group_size
        self.laps: dict[tuple[str, int], list[Seconds]] = {}

    def sizes(self, amounts: Amounts) -> list[tuple[str, int]]:
        """Return kind and size of the program of each term of a part."""
        return [
            ("matrices", amounts.at_once),
            ("logits", amounts.logits_at_once),
            ("exp", amounts.logits_at_once),
            ("attention", 1 if amounts.at_once == self.rows else 128),
            ("memory", 2 * self.rows * self.slots * self.shape.layers * self.shape.kv_heads * self.shape.head_size),
        ]

    @functools.cache  # noqa: B019
    def program(self, kind: str, size: int) -> Callable[[], Any]:
        """Return a compiled program that does `amount` some times."""
        make = {
            "matrices": self._matrices, "logits": self._logits, "exp": self._exp, "attention": self._attention,
            "memory": self._memory,
        }  # fmt: skip
        function, arguments = make[kind](size)
        compiled = jax.jit(repeated(function, self.repeats(kind, size))).lower(*arguments).compile()
        jax.block_until_ready(compiled(*arguments))
        return lambda: compiled(*arguments)

    def repeats(self, kind: str, size: int) -> int:
        """Return how often a program does its work, so that starting it does not count."""
        return round(max(1.0, LEAST[kind] / self.amount(kind, size)))

    def amount(self, kind: str, size: int) -> float:
        """Return what a program does, in the unit of `terms`: FLOPs, exponentials or bytes."""
        s = self.shape
        return {
            "matrices": 2.0 * size * count_matrix_params(s).layers / s.layers,
            "logits": 2.0 * size * s.width * s.vocab_size,
            "exp": float(size * s.vocab_size),
            "attention": 4.0 * self.rows * s.heads * s.head_size * size * self.slots,
            "memory": 4.0 * size,
        }[kind]

    def _matrices(self, tokens: int) -> tuple[Callable, tuple]:
        s = self.shape
        query, key = s.heads * s.head_size, s.kv_heads * s.head_size
        sizes = [(s.width, query + 2 * key), (query, s.width), (s.width, 2 * s.mlp_width), (s.mlp_width, s.width)]
        return lambda xs, ws: [x @ w for x, w in zip(xs, ws, strict=True)], (
            [jnp.ones((tokens, rows)) for rows, _ in sizes],
            [jnp.ones(size) for size in sizes],
        )

    def _logits(self, tokens: int) -> tuple[Callable, tuple]:
        return jnp.matmul, (jnp.ones((tokens, self.shape.width)), jnp.ones((self.shape.width, self.shape.vocab_size)))

    def _exp(self, tokens: int) -> tuple[Callable, tuple]:
        # A sum over the result costs nothing beside it; without it, writing the result would be measured.
        return lambda x: jnp.exp(x).sum(-1), (jnp.ones((tokens, self.shape.vocab_size)),)

    def _attention(self, queries: int) -> tuple[Callable, tuple]:
        s = self.shape
        group = s.heads // s.kv_heads
        q = jnp.ones((self.rows, s.kv_heads, group * queries, s.head_size))
        k = jnp.ones((self.rows, s.kv_heads, self.slots, s.head_size))
        return lambda q, k, v: (q @ k.mT) @ v, (q, k, k)

    def _memory(self, floats: int) -> tuple[Callable, tuple]:
        return lambda x: x.sum(keepdims=True), (jnp.ones(floats),)

    def take(self, kind: str, size: int) -> None:
        """Measure one program once."""
        self.laps.setdefault((kind, size), []).append(measure(self.program(kind, size)))

    def floor(self, amounts: Amounts) -> dict[str, Seconds]:
        """Return the seconds of each term of a part."""
        s, work, passes = self.shape, amounts.work, amounts.passes
        needed = {
            "matrices": 2.0 * passes * count_matrix_params(s).layers * work.tokens,
            "logits": 2.0 * passes * s.width * s.vocab_size * work.logits,
            "exp": s.vocab_size * work.logits,
            "attention": 4.0 * passes * s.layers * s.heads * s.head_size * work.pairs,
            "memory": amounts.memory_nbytes,
        }
        terms = {}
        for kind, size in self.sizes(amounts):
            scale = needed[kind] / (self.amount(kind, size) * self.repeats(kind, size))
            terms[kind] = Seconds(*(seconds * scale for seconds in median(self.laps[kind, size])))
        if amounts.at_once == self.rows:  # one query at a time: attention and reading the cache are the same
            smaller, larger = sorted(("attention", "memory"), key=lambda kind: terms[kind].wall)
            terms[smaller] = Seconds(0.0, 0.0) if terms[larger].wall else terms[smaller]
        return terms


def repeated(function: Callable, times: int) -> Callable:
    """Return the function called so many times, one call after the other."""

    def once(_: Any, arguments: tuple) -> tuple:
        result = jax.lax.optimization_barrier(function(*arguments))
        # The next call needs this one: nothing can be moved out of the loop.
        tiny = jax.tree.leaves(result)[0].ravel()[0] * 1e-30
        return jax.tree.map(lambda x: x.at[(0,) * x.ndim].add(tiny), arguments)

    return lambda *arguments: jax.lax.fori_loop(0, times, once, arguments)


class Parts:
    """The parts of a MIG step: a call measures each once."""

    def __init__(self, run: step_cost.Run):
        self.run, self.key = run, 0
        self.laps: dict[str, list[Seconds]] = {part: [] for part in PARTS}

    def __call__(self) -> None:
        run, self.key = self.run, self.key + 1
        self._time_stages()
        result = run.rollout(run.state.params, run.prompts, jax.random.key(self.key))
        jax.block_until_ready(result.batch)
        self._stop_timing()
        logprobs = functools.partial(run.rollout.compiled.ref_logprobs, run.state.params, result.batch)
        self.laps["log-probs"].append(measure(logprobs))

        def update() -> Any:
            run.state, metrics = run.update(run.state, result.batch)
            return run.state, metrics

        self.laps["update"].append(measure(update))

    def _time_stages(self) -> None:
        """Wrap the compiled functions of sampling and scoring, so that each is waited for and measured."""
        self.compiled = self.run.rollout.compiled

        def timed(part: str, function: Callable) -> Callable:
            def call(*args: Any, **kwargs: Any) -> Any:
                results: list[Any] = []

                def work() -> Any:
                    results.append(function(*args, **kwargs))
                    return results[0]

                self.laps[part].append(measure(work))
                return results[0]

            return call

        self.run.rollout.compiled = self.compiled._replace(
            sample=step_cost.AtOnce(timed("sampling", self.compiled.sample)),
            likelihood=timed("scoring", self.compiled.likelihood),
        )

    def _stop_timing(self) -> None:
        self.run.rollout.compiled = self.compiled


def report(rates: Rates, amounts: dict[str, Amounts], laps: dict[str, list[Seconds]]) -> None:
    """Print the terms of each part's floor, in seconds of wall clock, beside what was measured."""
    print(f"{'seconds':12}" + "".join(f"{term:>11}" for term in (*TERMS, "floor", "measured", "× (wall)", "× (CPU)")))
    for part in PARTS:
        terms, found = rates.floor(amounts[part]), median(laps[part])
        floor = Seconds(*(sum(values) for values in zip(*terms.values(), strict=True)))
        cells = [*(terms[term].wall for term in TERMS), floor.wall, found.wall]
        ratios = found.wall / floor.wall, found.cpu / floor.cpu
        print(f"{part:12}" + "".join(f"{cell:11.3f}" for cell in cells) + "".join(f"{x:11.2f}" for x in ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "prompt": 64, "response": 128, "steps": 8, "variants": 4, "answer": 4, "questions": 8, "group_size": 8,
        "layers": 6, "width": 256, "vocab": 8192, "rounds": 3, "warm_up": 1,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    args.quickstart = False
    config = step_cost.get_config(args)
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=jax.devices())
    with jax.set_mesh(mesh), Verifier(workers=config.verifier.workers) as verifier:
        policy = step_cost.widen_vocabulary(load_policy(config.model, mesh, seed=0), args.vocab)
        parts = Parts(step_cost.Run(policy, config, verifier, step_cost.draw_problems(args), args))
        tokenizer = policy.tokenizer
        lead_in = len(tokenizer.encode(tokenizer.format.lead_in))
        amounts = count_amounts(args, policy.config, lead_in + args.answer)
        rates = Rates(policy.config, args)
        for n in range(args.warm_up + args.rounds):
            parts()
            if n < args.warm_up:
                parts.laps = {part: [] for part in PARTS}
                continue
            for kind, size in {key for part in PARTS for key in rates.sizes(amounts[part])}:
                rates.take(kind, size)
    print(f"{jax.devices()[0].device_kind}, {args}")
    report(rates, amounts, parts.laps)


if __name__ == "__main__":
    main()
