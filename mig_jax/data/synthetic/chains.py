"""Chain arithmetic: a task with written steps, made without any data set.

    Last digits of 7 +5 -3 *3

A chain starts from a digit and applies its operations from left to right, keeping only the last digit every time. The
answer lists all the running values, in order, as one number: 7+5=2, 2-3=9, 9*3=7, so 297.

Why a list: were the last value the answer, one of ten digits would be right, and most chains would pass through the
right one before their end, so that a step could look like progress by luck. K running values make about 9·10^(K-1)
answers, none of which can be named before the last step. Why only 3, 7 and 9 multiply: these maps of the digits are
one to one (as are + and -), so two different values stay different, and a slip is never healed by a later step.
"""

from typing import NamedTuple

import numpy as np

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
        """The text that is asked, such as `Last digits of 7 +5 -3 *3`."""
        return " ".join(["Last digits of", str(self.start), *(f"{symbol}{digit}" for symbol, digit in self.operations)])

    @property
    def steps(self) -> tuple[str, ...]:
        """The K right steps, such as `7+5=2`."""
        return _write(self, [0] * len(self.operations))[0]

    @property
    def answer(self) -> str:
        """The K right running values as one number without a leading zero."""
        return _write(self, [0] * len(self.operations))[1]


def chain(rng: np.random.Generator, *, terms: int) -> Chain:
    """Draws a chain of `terms` digits, hence of K = `terms` - 1 steps.

    Args:
      rng: the only source of chance.
      terms: how many digits the question shows, at least 2.

    Raises:
      ValueError: when `terms` is below 2.
    """
    if terms < 2:
        raise ValueError(f"a chain needs at least 2 terms, got {terms}")
    start = int(rng.integers(1, 10))
    # The first running value opens the answer, and a number does not open with 0.
    firsts = [operation for operation in OPERATIONS if _apply(start, *operation) != 0]
    rest = rng.integers(len(OPERATIONS), size=terms - 2)
    return Chain(start, (firsts[rng.integers(len(firsts))], *(OPERATIONS[i] for i in rest)))


def solution(
    rng: np.random.Generator, chain: Chain, *, slip_prob: float, early_guess_prob: float
) -> tuple[tuple[str, ...], str]:
    """The steps and the answer of a writer who knows the arithmetic, but slips and is sometimes hasty.

    With probability `slip_prob`, each step on its own, the result is replaced by one of the nine wrong digits; the writer
    goes on from what is written and answers with what is written. With probability `early_guess_prob` the writer stops before the
    last step, anywhere behind the first, and guesses the digits that are left: who learns from this knows what can be
    said of the answer after any number of steps, which is what a probe asks.

    Raises:
      ValueError: when `slip_prob` or `early_guess_prob` is no probability.
    """
    for name, value in (("slip_prob", slip_prob), ("early_guess_prob", early_guess_prob)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a probability, got {value}")
    length = len(chain.operations)
    is_slip_k = rng.random(length) < slip_prob
    steps, answer = _write(chain, np.where(is_slip_k, rng.integers(1, 10, size=length), 0).tolist())
    is_hasty, last, guesses = (
        rng.random() < early_guess_prob,
        rng.integers(1, max(length, 2)),
        rng.integers(0, 10, size=length),
    )
    if not is_hasty or length == 1:
        return steps, answer
    return steps[:last], answer[:last] + "".join(map(str, guesses[last:]))


def _write(chain: Chain, slip_k: list[int]) -> tuple[tuple[str, ...], str]:
    """Steps and answer when `slip_k` is added to the results (0: no slip)."""
    value, steps, digits = chain.start, [], []
    for (symbol, digit), slip in zip(chain.operations, slip_k, strict=True):
        result = (_apply(value, symbol, digit) + slip) % 10
        steps.append(f"{value}{symbol}{digit}={result}")
        digits.append(str(result))
        value = result
    return tuple(steps), "".join(digits)


def _apply(value: int, symbol: str, digit: int) -> int:
    return {"+": value + digit, "-": value - digit, "*": value * digit}[symbol] % 10
