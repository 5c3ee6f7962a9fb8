"""Arithmetic on exact fractions, as long as only rational numbers occur, and on mpmath's numbers from there on.

Each operation takes its operands and the `Point` at which a formula is evaluated. Values of unreasonable size raise
`TooLarge`, so that the time for a formula is bounded.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

# Most bits of an exact number; greatest binary exponent of another one, and greatest argument of a factorial.
_MAX_BITS, _MAX_EXPONENT, _MAX_FACTORIAL = 20_000, 5_000, 1_000


class Undefined(Exception):
    """A formula has no value at a point, such as 1/0."""


class TooLarge(Exception):
    """A value has too many digits, or mpmath is not installed."""


class Point:
    """Where a formula is evaluated.

    values: those of the names.
    digits: decimal digits of values that are not exact.
    left_reals: whether a root or logarithm of a negative number was taken on the way.
    denominators: what was divided by on the way.
    """

    def __init__(self, values: Mapping[str, Fraction], digits: int):
        self.values = values
        self.digits = digits
        self.left_reals = False
        self.denominators: list[Any] = []

    @property
    def mp(self) -> Any:
        """Return mpmath at the precision of this point."""
        return context(self.digits)


@functools.cache
def context(digits: int) -> Any:
    """Return mpmath at a precision."""
    try:
        import mpmath
    except ImportError as error:  # the extra `train` is missing
        raise TooLarge from error
    context = mpmath.mp.clone()
    context.dps = digits
    return context


def to_mp(value: Any, mp: Any) -> Any:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def checked(value: Any) -> Any:
    """Return a value that is not too large."""
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise TooLarge
        return value
    for part in (value.real, value.imag):
        if not math.isfinite(float_exponent := _exponent(part)):
            raise Undefined
        if abs(float_exponent) > _MAX_EXPONENT:
            raise TooLarge
    return value


def _exponent(part: Any) -> float:
    """Return the binary exponent of a real number; infinite if it is."""
    sign_, mantissa, exponent, bits = part._mpf_
    if not mantissa:
        return 0 if not exponent else math.inf
    return float(exponent + bits)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Point], Any]:
    def apply(one: Any, other: Any, point: Point) -> Any:
        if not (isinstance(one, Fraction) and isinstance(other, Fraction)):
            one, other = to_mp(one, point.mp), to_mp(other, point.mp)
        return checked(function(one, other))

    return apply


add = _binary(lambda one, other: one + other)
subtract = _binary(lambda one, other: one - other)
multiply = _binary(lambda one, other: one * other)


def divide(one: Any, other: Any, point: Point) -> Any:
    if other == 0:
        raise Undefined
    if other not in point.denominators:
        point.denominators.append(other)
    return _binary(lambda one, other: one / other)(one, other, point)


def power(base: Any, exponent: Any, point: Point) -> Any:
    if base == 0 and _real(exponent, point) <= 0:
        raise Undefined
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        size = abs(exponent) * (
            max(abs(base.numerator).bit_length(), base.denominator.bit_length()) - 1
            if isinstance(base, Fraction)
            else abs(_exponent(abs(base)))
        )
        if abs(exponent) > 10**9 or size > (_MAX_BITS if isinstance(base, Fraction) else _MAX_EXPONENT):
            raise TooLarge
        return checked(base ** int(exponent))
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2):
        return root(base, Fraction(2), point)
    base, exponent, mp = to_mp(base, point.mp), to_mp(exponent, point.mp), point.mp
    if base == 0:
        return mp.mpf(0)
    logarithm = mp.log(base)
    if abs(logarithm * exponent) > _MAX_EXPONENT:
        raise TooLarge
    point.left_reals |= mp.im(logarithm) != 0
    return checked(mp.exp(logarithm * exponent))


def root(value: Any, degree: Any, point: Point) -> Any:
    """Return the principal root; odd roots of negative numbers are negative."""
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 1000:
        return power(value, divide(Fraction(1), degree, point), point)
    n = int(degree)
    if isinstance(value, Fraction):
        over, under = _exact_root(abs(value.numerator), n), _exact_root(value.denominator, n)
        if over is not None and under is not None and (value >= 0 or n % 2):
            return Fraction(over if value >= 0 else -over, under)
    value = to_mp(value, point.mp)
    if point.mp.im(value) == 0 and point.mp.re(value) < 0:
        if n % 2:
            return -point.mp.root(-value, n)
        point.left_reals = True
    return checked(point.mp.root(value, n))


def _exact_root(value: int, n: int) -> int | None:
    """Return the nth root of a natural number if it is one, too."""
    root = math.isqrt(value) if n == 2 else round(value ** (1 / n)) if value < 2**900 else -1
    return root if root >= 0 and root**n == value else None


def factorial(value: Any, point: Point) -> Any:
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise Undefined
        if value > _MAX_FACTORIAL:
            raise TooLarge
        return checked(Fraction(math.factorial(int(value))))
    value = to_mp(value, point.mp)
    if abs(value) > _MAX_FACTORIAL:
        raise TooLarge
    return checked(point.mp.factorial(value))


def binomial(one: Any, other: Any, point: Point) -> Any:
    if all(
        isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= _MAX_FACTORIAL
        for value in (one, other)
    ):
        return Fraction(math.comb(int(one), int(other)))
    below = multiply(factorial(other, point), factorial(subtract(one, other, point), point), point)
    return divide(factorial(one, point), below, point)


def _real(value: Any, point: Point) -> Any:
    return value if isinstance(value, Fraction) else point.mp.re(value)


def round_to_integer(value: Any, point: Point, *, up: bool) -> Any:
    if not isinstance(value, Fraction):
        if point.mp.im(value) != 0:
            raise Undefined
        nearest = point.mp.nint(value)
        value = nearest if abs(value - nearest) < point.mp.mpf(10) ** -30 else value
        return Fraction(int(point.mp.ceil(value) if up else point.mp.floor(value)))
    return Fraction(math.ceil(value) if up else math.floor(value))


def absolute(value: Any, point: Point) -> Any:
    return abs(value)


def logarithm(value: Any, base: Any, point: Point) -> Any:
    mp, value, base = point.mp, to_mp(value, point.mp), to_mp(base, point.mp)
    if value == 0 or base in (0, 1):
        raise Undefined
    result = mp.log(value) / mp.log(base)
    point.left_reals |= mp.im(result) != 0
    return result


def call_function(name: str, value: Any, point: Point) -> Any:
    """Return the value of an elementary function."""
    mp = point.mp
    if name == "log10":
        return logarithm(value, Fraction(10), point)
    value = to_mp(value, mp)
    if name == "ln":
        if value == 0:
            raise Undefined
        result = mp.log(value)
    elif abs(value) > _MAX_EXPONENT / 2:
        raise TooLarge
    else:
        result = getattr(mp, name)(value)
        if name in ("sin", "cos", "tan") and abs(result) < mp.mpf(10) ** (5 - mp.dps):
            return Fraction(0)
        if name in ("tan", "cot", "sec", "csc") and abs(result) > mp.mpf(10) ** (mp.dps - 5):
            raise Undefined
    point.left_reals |= mp.im(value) == 0 and mp.im(result) != 0
    return checked(result)


def call_unknown_function(name: str, values: Sequence[Any], point: Point) -> Any:
    """Return the value of an unknown function at its arguments: some polynomial, another one for each name."""
    total, weight = point.values[name], Fraction(7, 3)
    for value in values:
        square = multiply(value, value, point)
        total = add(
            total,
            multiply(weight + point.values[name], add(multiply(square, value, point), square, point), point),
            point,
        )
        weight = weight * Fraction(11, 5)
    return total
