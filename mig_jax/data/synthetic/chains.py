"""Chain arithmetic: generated questions with step-by-step solutions.

    Last digits of 7 +5 -3 *3

A chain starts from a digit and applies its operations from left to right, keeping only the last digit each time. The
answer lists all running values, in order, as one number: 7+5=2, 2-3=9, 9*3=7, so 297.

Why the answer is a list: if only the last value were asked, one guess in ten would be right. Most chains would also
pass through the right digit before their end, so a step could look like progress by chance. K running values have about
9·10^(K-1) possible answers, and none is known before the last step.

Why the factors are 3, 7 and 9 only: multiplication by them is one-to-one on the digits, as + and - are. Two different
values stay different, so no later step undoes an error.
"""

from typing import NamedTuple

import numpy as np

from mig_jax.data.options import check_probabilities
from mig_jax.errors import UserError

OPERATIONS = (
    *(("+", digit) for digit in range(1, 10)),
    *(("-", digit) for digit in range(1, 10)),
    *(("*", digit) for digit in (3, 7, 9)),
)


class Chain(NamedTuple):
    """A start digit and the K operations that follow, each a symbol and a digit."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        """The question, such as `Last digits of 7 +5 -3 *3`."""
        return " ".join(["Last digits of", str(self.start), *(f"{symbol}{digit}" for symbol, digit in self.operations)])

    @property
    def steps(self) -> tuple[str, ...]:
        """The K correct steps, such as `7+5=2`."""
        return _evaluate(self, [0] * len(self.operations))[0]

    @property
    def answer(self) -> str:
        """The K correct running values as one number without a leading zero."""
        return _evaluate(self, [0] * len(self.operations))[1]


def draw_chain(rng: np.random.Generator, *, terms: int) -> Chain:
    """Draw a chain of `terms` digits, which has K = `terms` - 1 steps.

    Args:
      rng: the only source of randomness.
      terms: number of digits in the question, at least 2.

    Raises:
      UserError: `terms` is less than 2.
    """
    if terms < 2:
        raise UserError(f"a chain needs at least 2 terms, got {terms}")
    start = int(rng.integers(1, 10))
    # The first running value is the first digit of the answer, and a number does not start with 0.
    first_operations = [operation for operation in OPERATIONS if _apply(start, *operation) != 0]
    rest = rng.integers(len(OPERATIONS), size=terms - 2)
    first = first_operations[rng.integers(len(first_operations))]
    return Chain(start, (first, *(OPERATIONS[i] for i in rest)))


def write_solution(
    rng: np.random.Generator, chain: Chain, *, slip_prob: float, early_guess_prob: float, merge_prob: float = 0.0
) -> tuple[tuple[str, ...], str]:
    """Return the steps and the answer of a solution with random slips and early guesses.

    A slip replaces the result of a step by one of the nine wrong digits. Later steps and the answer use the written
    result.

    An early guess drops the last steps, but never the first one, and guesses the remaining digits of the answer. A
    model trained on such solutions learns to predict the answer after any number of steps, as probes require.

    A merge writes an operation into the step of the one before it, without its result: `7+5-3=9` for `7+5=2` and
    `2-3=9`. So the same problem is solved in few large steps or in many small ones.

    Args:
      rng: the only source of randomness.
      chain: the chain to solve.
      slip_prob: probability of a slip, independent for each step.
      early_guess_prob: probability of an early guess.
      merge_prob: probability of a merge, independent for each operation but the first.

    Raises:
      UserError: a probability is outside [0, 1].
    """
    check_probabilities(slip_prob=slip_prob, early_guess_prob=early_guess_prob, merge_prob=merge_prob)
    n_steps = len(chain.operations)
    is_slip_k = rng.random(n_steps) < slip_prob
    steps, answer = _evaluate(chain, np.where(is_slip_k, rng.integers(1, 10, size=n_steps), 0).tolist())
    guesses_early = rng.random() < early_guess_prob
    n_written = rng.integers(1, max(n_steps, 2))
    guess_k = rng.integers(0, 10, size=n_steps)
    if guesses_early and n_steps > 1:
        steps, answer = steps[:n_written], answer[:n_written] + "".join(map(str, guess_k[n_written:]))
    is_merged_k = rng.random(n_steps) < merge_prob
    return _merge(steps, is_merged_k.tolist()), answer


def _merge(steps: tuple[str, ...], is_merged_k: list[bool]) -> tuple[str, ...]:
    """Join steps to the ones before them where `is_merged_k` says so."""
    merged: list[str] = []
    for step, is_merged in zip(steps, is_merged_k, strict=False):
        if merged and is_merged:
            before, _ = merged[-1].split("=")
            merged[-1] = before + step[1:]  # without its first digit, which is the result of the step before
        else:
            merged.append(step)
    return tuple(merged)


def _evaluate(chain: Chain, slip_k: list[int]) -> tuple[tuple[str, ...], str]:
    """Return steps and answer with `slip_k` added to the results; 0 is no slip."""
    value, steps, digits = chain.start, [], []
    for (symbol, digit), slip in zip(chain.operations, slip_k, strict=True):
        result = (_apply(value, symbol, digit) + slip) % 10
        steps.append(f"{value}{symbol}{digit}={result}")
        digits.append(str(result))
        value = result
    return tuple(steps), "".join(digits)


def _apply(value: int, symbol: str, digit: int) -> int:
    return {"+": value + digit, "-": value - digit, "*": value * digit}[symbol] % 10
