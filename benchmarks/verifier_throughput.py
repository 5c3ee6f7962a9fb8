"""Throughput of the verifier in answer pairs per second, with one worker and with several.

    python -m benchmarks.verifier_throughput

Grades the pairs of `tests/text/answers/answer_pairs.py` in one call per kind. The pools are started before, and are
timed in turns. The column "at once" is the share of pairs that are decided without a worker.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence

from mig_jax.text.answers.compare import COMPARISONS
from mig_jax.text.answers.verifier import KINDS, AnswerPair, Verifier
from tests.text.answers.answer_pairs import PAIRS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median is printed")
    parser.add_argument("--workers", type=int, default=2, help="workers of the larger pool")
    args = parser.parse_args()

    items = {kind: [AnswerPair(*pair[:4]) for pair in PAIRS if pair.kind == kind] for kind in KINDS}
    seconds: dict[tuple[str, int], list[float]] = {(kind, n): [] for kind in KINDS for n in (1, args.workers)}
    with contextlib.ExitStack() as stack:
        pools = {workers: stack.enter_context(Verifier(workers=workers)) for workers in (1, args.workers)}
        for pool in pools.values():
            for kind in KINDS:
                pool.grade(items[kind])
        for _ in range(args.rounds):
            for kind, workers in seconds:
                start = time.perf_counter()
                pools[workers].grade(items[kind])
                seconds[kind, workers].append(time.perf_counter() - start)

    print(f"{len(PAIRS)} pairs, {args}")
    print(f"{'kind':15} pairs  at once  pairs/s  with {args.workers} workers  ratio")
    for kind in KINDS:
        n, share = len(items[kind]), share_at_once(items[kind])
        one, many = (n / statistics.median(seconds[kind, workers]) for workers in (1, args.workers))
        # Without work for a worker there is nothing to compare.
        ratio = f"{many / one:6.2f}" if share < 1 else ""
        print(f"{kind:15} {n:5} {share:8.0%} {one:8.0f} {many:15.0f} {ratio}")


def share_at_once(items: Sequence[AnswerPair]) -> float:
    """Return the share of pairs that are decided without a worker."""
    verdicts = [COMPARISONS[item.kind](item.response or "", item.reference, item.choices) for item in items]
    return sum(verdict is not None for verdict in verdicts) / len(verdicts)


if __name__ == "__main__":
    main()
