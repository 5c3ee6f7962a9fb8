"""Equality of formulas by their values at fixed points, in place of algebra.

Formulas with equal values wherever both are real are equal. Rational values are compared exactly. Others are computed
to 40 digits, and to 90 before they count as equal: then they agree in 60 digits, relative to their size. There is no
other tolerance: 1.414 is not √2, and 1/2^55 is not 1/2^56.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from mig_jax.text.answers.arithmetic import Point, TooLarge, Undefined, divide, multiply, subtract, to_mp
from mig_jax.text.answers.parser import Formula, Unreadable

_DIGITS, _MORE_DIGITS = 40, 90

# Values of the names at each point, in the order in which names are sorted; later names take the next ones. The first
# points are positive, where roots and logarithms are real.
_POINTS = (
    ("13/7", "5/3", "17/11", "23/13", "19/7", "8/5", "29/17", "31/19", "11/9", "37/23", "9/4", "25/12"),
    ("3/11", "5/13", "4/17", "7/19", "2/7", "9/23", "10/29", "11/31", "12/37", "6/41", "13/43", "14/47"),
    ("-9/7", "-4/3", "12/5", "-7/4", "16/9", "-11/8", "13/6", "-15/11", "21/13", "-18/7", "23/14", "-25/16"),
    ("23/5", "-17/6", "-8/7", "19/4", "-27/11", "31/8", "-13/9", "41/12", "-29/10", "35/13", "-37/15", "43/17"),
    ("-5/12", "-7/15", "-6/19", "-9/22", "-10/27", "-11/29", "-8/21", "-13/34", "-4/9", "-12/31", "-14/37", "-3/8"),
)  # fmt: skip


class _Values(NamedTuple):
    """The values of two formulas at a point."""

    one: Any
    other: Any
    point: Point


def is_same_value(one: Formula, other: Formula) -> bool | None:
    """Return whether two formulas have equal values at all points where both are real; None if that is unknown.

    Raises:
      Unreadable: a value has too many digits.
    """
    names = _names(one, other)
    found = 0
    for values in values_at_points(names, one, other):
        found += 1
        if not _agree(values, one, other):
            return False
    if not found and not (one.names and other.names):
        return False  # a constant without a value, such as 1/0
    if not names or found > 1:
        return True
    # (-1)^n is nowhere real: compare principal values.
    complex_values = list(values_at_points(names, one._replace(is_complex=True), other))
    is_same = all(_is_close(values.one, values.other, values.point.mp) for values in complex_values)
    return True if is_same and len(complex_values) > 2 else None


def is_proportional(one: Formula, other: Formula) -> int | None:
    """Return the sign of the constant ratio of two formulas that are not constant; 0 if there is none.

    None if that is unknown.

    Raises:
      Unreadable: a value has too many digits.
    """
    # Equations may also differ by a denominator: y = 1/x and xy = 1.
    for change in (lambda formula: formula, _without_denominators):
        sign = _sign_of_ratio(change(one), change(other))
        if sign != 0:
            return sign
    return 0


def difference(one: Formula, other: Formula) -> Formula:
    """Return one formula minus another."""
    return Formula(
        _names(one, other),
        lambda point: subtract(one.evaluate(point), other.evaluate(point), point),
        one.is_complex or other.is_complex,
    )


def constant_value(formula: Formula) -> float | None:
    """Return the value of a formula without names, to sort by; None if it has none."""
    if formula.names:
        return None
    point = Point({}, _DIGITS)
    try:
        value = formula.evaluate(point)
        return float(value) if isinstance(value, Fraction) else float(point.mp.mpc(value).real)
    except (Undefined, TooLarge, ArithmeticError, ValueError, TypeError, AttributeError):
        return None


def _names(*formulas: Formula) -> tuple[str, ...]:
    return tuple(sorted({name for formula in formulas for name in formula.names}))


def _without_denominators(formula: Formula) -> Formula:
    """Return a formula times its denominators."""

    def evaluate(point: Point) -> Any:
        point.denominators = []
        value = formula.evaluate(point)
        for denominator in list(point.denominators):
            value = multiply(value, denominator, point)
        return value

    return formula._replace(evaluate=evaluate)


def _sign_of_ratio(one: Formula, other: Formula) -> int | None:
    """Return the sign of the ratio of two formulas if it is constant, else 0; None if that is unknown."""
    found = list(values_at_points(_names(one, other), one, other))
    if len(found) < 2:
        return None
    if any(values.one == 0 or values.other == 0 for values in found):
        return 0
    mp = found[0].point.mp
    ratios = [divide(*values) for values in found]
    if not all(_is_close(ratio, ratios[0], mp) for ratio in ratios):
        return 0
    if all(_is_close(values.one, found[0].one, mp) for values in found):
        return 0
    return 1 if mp.mpc(to_mp(ratios[0], mp)).real > 0 else -1


def _agree(values: _Values, one: Formula, other: Formula) -> bool:
    """Return whether two values are equal; numbers that are not exact also with more digits."""
    if isinstance(values.one, Fraction) and isinstance(values.other, Fraction):
        return values.one == values.other
    mp = values.point.mp
    is_small = max(abs(to_mp(value, mp)) for value in values[:2]) < mp.mpf(10) ** (-mp.dps // 2)
    if not _is_close(*values[:2], mp) and not is_small:
        return False
    again = _values_at(values.point.values, _MORE_DIGITS, one, other)
    if again is None:
        return False
    # A value that shrinks with more digits is zero but for rounding errors, as (√2)² − 2.
    is_zero = [_vanishes(value, more, again.point.mp) for value, more in zip(values[:2], again[:2], strict=True)]
    return all(is_zero) or not any(is_zero) and _is_close(*again[:2], again.point.mp)


def _vanishes(value: Any, more: Any, mp: Any) -> bool:
    """Return whether a value is zero but for rounding errors, given the same with more digits."""
    value, more = abs(to_mp(value, mp)), abs(to_mp(more, mp))
    return more == 0 or more <= value * mp.mpf(10) ** -20 or value == 0 and more < mp.mpf(10) ** (10 - mp.dps)


def _is_close(value: Any, wanted: Any, mp: Any) -> bool:
    """Return whether two values differ by less than two thirds of the digits, relative to the larger one."""
    if isinstance(value, Fraction) and isinstance(wanted, Fraction):
        return value == wanted
    value, wanted = to_mp(value, mp), to_mp(wanted, mp)
    return abs(value - wanted) <= mp.mpf(10) ** (-2 * mp.dps // 3) * max(abs(value), abs(wanted))


def values_at_points(names: Sequence[str], one: Formula, other: Formula) -> Iterator[_Values]:
    """Yield the values of two formulas at all points where both are defined and real.

    With the imaginary unit, or without names, values may be complex.
    """
    if len(names) > len(_POINTS[0]):
        return
    for row in _POINTS[: None if names else 1]:
        values = _values_at(dict(zip(names, map(Fraction, row), strict=False)), _DIGITS, one, other)
        if values and (not values.point.left_reals or not names or one.is_complex or other.is_complex):
            yield values


def _values_at(values: Mapping[str, Fraction], digits: int, one: Formula, other: Formula) -> _Values | None:
    """Return the values of two formulas at a point; None if one is undefined.

    Raises:
      Unreadable: a value has too many digits.
    """
    try:
        point = Point(values, digits)
        return _Values(one.evaluate(point), other.evaluate(point), point)
    except (TooLarge, RecursionError, MemoryError) as error:
        raise Unreadable from error
    except (Undefined, ArithmeticError, ValueError, TypeError, AttributeError):
        return None
