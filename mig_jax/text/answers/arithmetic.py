r"""Equality of formulas by their values, without algebra.

`parse_formula` reads one value in LaTeX or plain text: numbers, names, + − · / ^ !, roots, fractions, binomials,
logarithms and the other elementary functions. Formulas with equal values wherever both are defined are equal; the
values are compared at fixed rational points. As long as only rational numbers occur, values are exact fractions. Roots
and functions are computed to 40 digits, and again to 90 before two values count as equal (`same_values`).

Integrals, sums, limits and other commands of `_ALGEBRA` raise `Unreadable`; anything else raises `NotAFormula`.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

# Longest formula that is read, in characters, and most tokens of it.
MAX_CHARACTERS, MAX_TOKENS = 600, 300
# Most bits of an exact number; greatest binary exponent of another one, and greatest argument of a factorial.
_MAX_BITS, _MAX_EXPONENT, _MAX_FACTORIAL = 20_000, 5_000, 1_000
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

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon "
    "phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar".split()
)
_FUNCTIONS = {
    **{name: name for name in "sin cos tan cot sec csc sinh cosh tanh coth exp ln".split()},
    **{f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()},
    "log": "log10", "lg": "log10",
}  # fmt: skip
# What only algebra can evaluate.
_ALGEBRA = re.compile(
    r"\\(?:i{1,3}nt|oint|sum|prod|lim|begin|det|partial|gcd|lcm|max|min|[bp]?mod|Re|Im|arg|nabla)(?![a-z])"
    r"|\\frac ?\{ ?d"
)
_TIMES, _OVER = {"*", r"\cdot", r"\times", r"\ast"}, {"/", r"\div", ":"}
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\{": r"\}"}
_ACCENTS = {r"\vec", r"\hat", r"\bar", r"\tilde", r"\mathbf", r"\mathbb", r"\mathcal", r"\overrightarrow", r"\bm"}
_ROMAN = {r"\text", r"\mathrm", r"\textrm", r"\textit", r"\mathit", r"\operatorname", r"\mbox", r"\textnormal"}
_TOKEN = re.compile(
    r" *(?P<token>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+|\\[A-Za-z]+|\\[{}%]"
    r"|[A-Za-z]+'*|[-+*/^_!%|()\[\]{}:])"
)
# Two letters that are a word, so that they are no product.
_SHORT_WORDS = frozenset(
    "ad ah am an as at be by do ex go ha he hi id if in is it me my no of oh ok on or ox re so to up us we".split()
)
_NAMED_GROUP = re.compile(r" *\{ *([A-Za-z]+) *\}")
_SUBSCRIPT = re.compile(r" *_ *(?:\{([^{}]{1,20})\}|([0-9A-Za-z]))")


class Unreadable(Exception):
    """A formula is none of the forms that are read here."""


class NotAFormula(Unreadable):
    """A text is no formula: it holds words or several numbers, or something is missing."""


class _Undefined(Exception):
    """A formula has no value at a point, such as 1/0."""


class _TooLarge(Exception):
    """A value has too many digits."""


class Formula(NamedTuple):
    """A formula that can be evaluated.

    names: its variables and unknown functions, sorted.
    evaluate: returns the value at a point, which has the value of each name.
    is_complex: whether the formula contains the imaginary unit.
    """

    names: tuple[str, ...]
    evaluate: "Callable[[_Point], Any]"
    is_complex: bool


class _Point:
    """The values of names, and whether a root or logarithm of a negative number was taken there."""

    def __init__(self, values: Mapping[str, Fraction], digits: int):
        self.values = values
        self.mp = _context(digits)
        self.left_reals = False
        self.denominators: list[Any] = []


_Node = Callable[[_Point], Any]


@functools.lru_cache(maxsize=4096)
def parse_formula(text: str) -> Formula:
    """Return the formula that a normalized text is.

    Raises:
      Unreadable: it is none that this module reads; `NotAFormula` if that is because of words.
    """
    if _ALGEBRA.search(text):
        raise Unreadable(text)
    if len(text) > MAX_CHARACTERS:
        raise NotAFormula(text)
    parser = _Parser(text)
    try:
        node = parser.parse()
    except (RecursionError, LookupError) as error:
        raise NotAFormula(text) from error
    return Formula(tuple(sorted(parser.names)), node, parser.is_complex)


def is_same_value(one: Formula, other: Formula) -> bool | None:
    """Return whether two formulas have equal values at all points where both are real; None if that is unknown."""
    return _agree(one, other, lambda value, wanted, mp: same_values(value, wanted, mp))


def is_proportional(one: Formula, other: Formula) -> int | None:
    """Return the sign of the constant ratio of two formulas that are not constant; 0 if there is none.

    None if that is unknown.
    """
    names = tuple(sorted({*one.names, *other.names}))
    # Equations may also differ by a denominator: y = 1/x and xy = 1.
    for evaluate in (lambda formula: formula.evaluate, _without_denominators):
        formulas = [formula._replace(evaluate=evaluate(formula)) for formula in (one, other)]
        sign = _sign_of_ratio(names, *formulas)
        if sign != 0:
            return sign
    return 0


def _without_denominators(formula: Formula) -> _Node:
    """Return a formula times its denominators."""

    def evaluate(point: _Point) -> Any:
        point.denominators = []
        value = formula.evaluate(point)
        return functools.reduce(lambda product, factor: _multiply(product, factor, point), point.denominators, value)

    return evaluate


def _sign_of_ratio(names: Sequence[str], one: Formula, other: Formula) -> int | None:
    """Return the sign of the ratio of two formulas if it is constant, else 0; None if that is unknown."""
    ratios, values = [], []
    for value, wanted, point in _values_at_points(names, one, other):
        if value == 0 or wanted == 0:
            return 0
        ratios.append((_divide(value, wanted, point), point))
        values.append(value)
    if len(ratios) < 2:
        return None
    first, point = ratios[0]
    if all(_is_close(value, values[0], point.mp) for value in values[1:]):
        return 0
    if not all(_is_close(ratio, first, point.mp) for ratio, _ in ratios[1:]):
        return 0
    return 1 if point.mp.mpc(_to_mp(first, point.mp)).real > 0 else -1


def constant_value(formula: Formula) -> float | None:
    """Return the value of a formula without names, to sort by; None if it has none that is real."""
    if formula.names:
        return None
    point = _Point({}, _DIGITS)
    try:
        value = formula.evaluate(point)
        return float(value) if isinstance(value, Fraction) else float(point.mp.mpc(value).real)
    except (_Undefined, _TooLarge, ArithmeticError, ValueError, TypeError, AttributeError):
        return None


def same_values(value: Any, wanted: Any, mp: Any) -> bool:
    """Return whether two values are equal, at the precision of a context: exact fractions exactly, others relatively.

    Zero is never close to another number; see `_agree` for values that cancel out.
    """
    if isinstance(value, Fraction) and isinstance(wanted, Fraction):
        return value == wanted
    return _is_close(value, wanted, mp)


def _is_close(value: Any, wanted: Any, mp: Any) -> bool:
    """Return whether two values differ by less than two thirds of the digits, relative to the larger one."""
    if isinstance(value, Fraction) and isinstance(wanted, Fraction):
        return value == wanted
    value, wanted = _to_mp(value, mp), _to_mp(wanted, mp)
    return abs(value - wanted) <= mp.mpf(10) ** (-2 * mp.dps // 3) * max(abs(value), abs(wanted))


def _agree(one: Formula, other: Formula, is_same: Callable[[Any, Any, Any], bool]) -> bool | None:
    """Return whether the values of two formulas agree at all points where both are real; None if that is unknown."""
    names = tuple(sorted({*one.names, *other.names}))
    n_points = 0
    for value, wanted, point in _values_at_points(names, one, other):
        n_points += 1
        if not is_same(value, wanted, point.mp) and not _cancels_out(value, wanted, point, one, other):
            return False
        if not (isinstance(value, Fraction) and isinstance(wanted, Fraction)):
            again = _values_at(point.values, _MORE_DIGITS, one, other)
            if again is not None and not _vanishes(*again[:2], again[2].mp):
                if not is_same(*again[:2], again[2].mp):
                    return False
    if not n_points and not (one.names and other.names):
        return False  # a constant without a value, such as 1/0
    if n_points < 2 and names:
        # (-1)^n is nowhere real: compare principal values.
        points = list(_values_at_points(names, one._replace(is_complex=True), other))
        return True if len(points) > 2 and all(is_same(*point[:2], point[2].mp) for point in points) else None
    return None if n_points < min(2, 1 + len(names)) else True


def _cancels_out(value: Any, wanted: Any, point: _Point, one: Formula, other: Formula) -> bool:
    """Return whether two small values that differ get closer to zero with more digits, as (√2)² − 2 and 0 do."""
    mp = point.mp
    if max(abs(_to_mp(value, mp)), abs(_to_mp(wanted, mp))) > mp.mpf(10) ** (-mp.dps // 2):
        return False
    again = _values_at(point.values, _MORE_DIGITS, one, other)
    if again is None:
        return False
    difference = abs(_to_mp(value, mp) - _to_mp(wanted, mp))
    mp = again[2].mp
    return abs(_to_mp(again[0], mp) - _to_mp(again[1], mp)) < difference * mp.mpf(10) ** (-mp.dps // 4)


def _vanishes(value: Any, wanted: Any, mp: Any) -> bool:
    """Return whether both values are zero but for rounding errors."""
    return max(abs(_to_mp(value, mp)), abs(_to_mp(wanted, mp))) < mp.mpf(10) ** (-2 * mp.dps // 3)


def _values_at_points(names: Sequence[str], *formulas: Formula) -> Iterator[tuple[Any, Any, _Point]]:
    """Yield the values of two formulas and the point, for all points where both are defined and real.

    With the imaginary unit, or without names, values may be complex.
    """
    if len(names) > len(_POINTS[0]):
        return
    for values in _POINTS[: None if names else 1]:
        point = dict(zip(names, map(Fraction, values), strict=False))
        found = _values_at(point, _DIGITS, *formulas)
        if found is None:
            continue
        if found[2].left_reals and names and not any(formula.is_complex for formula in formulas):
            continue
        yield found


def _values_at(values: Mapping[str, Fraction], digits: int, *formulas: Formula) -> tuple[Any, Any, _Point] | None:
    """Return the values of two formulas at a point; None if one is undefined.

    Raises:
      Unreadable: a value has too many digits.
    """
    point = _Point(values, digits)
    try:
        one, other = (formula.evaluate(point) for formula in formulas)
    except (_TooLarge, RecursionError, MemoryError) as error:
        raise Unreadable from error
    except (_Undefined, ArithmeticError, ValueError, TypeError, AttributeError):
        return None
    return one, other, point


# ------------------------------------------------------------------------------------------------------------- values


@functools.cache
def _context(digits: int) -> Any:
    """Return mpmath at a precision."""
    try:
        import mpmath
    except ImportError as error:  # the extra `train` is missing
        raise Unreadable from error
    context = mpmath.mp.clone()
    context.dps = digits
    return context


def _to_mp(value: Any, mp: Any) -> Any:
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _checked(value: Any) -> Any:
    """Return a value that is not too large."""
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise _TooLarge
        return value
    for part in (value.real, value.imag):
        if not math.isfinite(float_exponent := _exponent(part)):
            raise _Undefined
        if abs(float_exponent) > _MAX_EXPONENT:
            raise _TooLarge
    return value


def _exponent(part: Any) -> float:
    """Return the binary exponent of a real number; infinite if it is."""
    sign_, mantissa, exponent, bits = part._mpf_
    if not mantissa:
        return 0 if not exponent else math.inf
    return float(exponent + bits)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any, _Point], Any]:
    def apply(one: Any, other: Any, point: _Point) -> Any:
        if not (isinstance(one, Fraction) and isinstance(other, Fraction)):
            one, other = _to_mp(one, point.mp), _to_mp(other, point.mp)
        return _checked(function(one, other))

    return apply


_add = _binary(lambda one, other: one + other)
_subtract = _binary(lambda one, other: one - other)
_multiply = _binary(lambda one, other: one * other)


def _divide(one: Any, other: Any, point: _Point) -> Any:
    if other == 0:
        raise _Undefined
    if other not in point.denominators:
        point.denominators.append(other)
    return _binary(lambda one, other: one / other)(one, other, point)


def _power(base: Any, exponent: Any, point: _Point) -> Any:
    if base == 0 and _real(exponent, point) <= 0:
        raise _Undefined
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        size = abs(exponent) * (
            max(abs(base.numerator).bit_length(), base.denominator.bit_length()) - 1
            if isinstance(base, Fraction)
            else abs(_exponent(abs(base)))
        )
        if abs(exponent) > 10**9 or size > (_MAX_BITS if isinstance(base, Fraction) else _MAX_EXPONENT):
            raise _TooLarge
        return _checked(base ** int(exponent))
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2):
        return _root(base, Fraction(2), point)
    base, exponent, mp = _to_mp(base, point.mp), _to_mp(exponent, point.mp), point.mp
    if base == 0:
        return mp.mpf(0)
    logarithm = mp.log(base)
    if abs(logarithm * exponent) > _MAX_EXPONENT:
        raise _TooLarge
    point.left_reals |= mp.im(logarithm) != 0
    return _checked(mp.exp(logarithm * exponent))


def _root(value: Any, degree: Any, point: _Point) -> Any:
    """Return the principal root; odd roots of negative numbers are negative."""
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 1000:
        return _power(value, _divide(Fraction(1), degree, point), point)
    n = int(degree)
    if isinstance(value, Fraction):
        parts = [_exact_root(part, n) for part in (abs(value.numerator), value.denominator)]
        if None not in parts and (value >= 0 or n % 2):
            return (
                math.copysign(1, value) * Fraction(*parts) if not value else Fraction(*parts) * (1 if value > 0 else -1)
            )
    value = _to_mp(value, point.mp)
    if point.mp.im(value) == 0 and point.mp.re(value) < 0:
        if n % 2:
            return -point.mp.root(-value, n)
        point.left_reals = True
    return _checked(point.mp.root(value, n))


def _exact_root(value: int, n: int) -> int | None:
    """Return the nth root of a natural number if it is one, too."""
    root = math.isqrt(value) if n == 2 else round(value ** (1 / n)) if value < 2**900 else -1
    return root if root >= 0 and root**n == value else None


def _factorial(value: Any, point: _Point) -> Any:
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise _Undefined
        if value > _MAX_FACTORIAL:
            raise _TooLarge
        return _checked(Fraction(math.factorial(int(value))))
    value = _to_mp(value, point.mp)
    if abs(value) > _MAX_FACTORIAL:
        raise _TooLarge
    return _checked(point.mp.factorial(value))


def _binomial(one: Any, other: Any, point: _Point) -> Any:
    if all(
        isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= _MAX_FACTORIAL
        for value in (one, other)
    ):
        return Fraction(math.comb(int(one), int(other)))
    below = _multiply(_factorial(other, point), _factorial(_subtract(one, other, point), point), point)
    return _divide(_factorial(one, point), below, point)


def _real(value: Any, point: _Point) -> Any:
    return value if isinstance(value, Fraction) else point.mp.re(value)


def _round(value: Any, point: _Point, *, up: bool) -> Any:
    if not isinstance(value, Fraction):
        if point.mp.im(value) != 0:
            raise _Undefined
        nearest = point.mp.nint(value)
        value = nearest if abs(value - nearest) < point.mp.mpf(10) ** -30 else value
        return Fraction(int(point.mp.ceil(value) if up else point.mp.floor(value)))
    return Fraction(math.ceil(value) if up else math.floor(value))


def _absolute(value: Any, point: _Point) -> Any:
    return abs(value)


def _logarithm(value: Any, base: Any, point: _Point) -> Any:
    mp, value, base = point.mp, _to_mp(value, point.mp), _to_mp(base, point.mp)
    if value == 0 or base in (0, 1):
        raise _Undefined
    result = mp.log(value) / mp.log(base)
    point.left_reals |= mp.im(result) != 0
    return result


def _call(name: str, value: Any, point: _Point) -> Any:
    """Return the value of an elementary function."""
    mp = point.mp
    if name == "log10":
        return _logarithm(value, Fraction(10), point)
    value = _to_mp(value, mp)
    if name == "ln":
        if value == 0:
            raise _Undefined
        result = mp.log(value)
    elif abs(value) > _MAX_EXPONENT / 2:
        raise _TooLarge
    else:
        result = getattr(mp, name)(value)
        if name in ("sin", "cos", "tan") and abs(result) < mp.mpf(10) ** (5 - mp.dps):
            return Fraction(0)
        if name in ("tan", "cot", "sec", "csc") and abs(result) > mp.mpf(10) ** (mp.dps - 5):
            raise _Undefined
    point.left_reals |= mp.im(value) == 0 and mp.im(result) != 0
    return _checked(result)


def _unknown_function(name: str, values: Sequence[Any], point: _Point) -> Any:
    """Return the value of an unknown function at its arguments: some polynomial, another one for each name."""
    total, weight = point.values[name], Fraction(7, 3)
    for value in values:
        square = _multiply(value, value, point)
        total = _add(
            total,
            _multiply(weight + point.values[name], _add(_multiply(square, value, point), square, point), point),
            point,
        )
        weight = weight * Fraction(11, 5)
    return total


# ------------------------------------------------------------------------------------------------------------- parser


class _Parser:
    """A recursive-descent parser of one formula."""

    def __init__(self, text: str):
        self.text = text
        self.names: set[str] = set()
        self.is_complex = False
        self.tokens: list[str] = []
        self.blank_before: list[bool] = []
        self._split()
        self.position = 0
        self.bars = 0

    def parse(self) -> _Node:
        node = self._sum()
        if self.position < len(self.tokens):
            raise NotAFormula(self.text)
        return node

    def _split(self) -> None:
        """Split the text into tokens; names keep their subscripts."""
        position = 0
        text = self.text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise NotAFormula(text)
            token, position = match["token"], match.end()
            self.blank_before.append(match[0].startswith(" "))
            if token in _ROMAN or token in _ACCENTS:
                group = _NAMED_GROUP.match(text, position)
                if group is None:
                    raise NotAFormula(text) if token in _ROMAN else Unreadable(text)
                position = group.end()
                if token in _ROMAN and len(group[1]) > 1:
                    raise NotAFormula(text)
                token = group[1] if token in _ROMAN else f"{token} {group[1]}"
            elif token[0].isalpha() and len(token.rstrip("'")) > 1:
                if not _is_product(token, text[: match.start("token")]):
                    raise NotAFormula(text)
                *letters, token = [*token.rstrip("'")[:-1], token[len(token.rstrip("'")) - 1 :]]
                self.tokens += letters
                self.blank_before += [False] * len(letters)
            if token[0].isalpha() or token[1:] in GREEK or token.split()[0] in _ACCENTS:
                subscript = _SUBSCRIPT.match(text, position)
                if subscript:
                    position = subscript.end()
                    token += "_" + (subscript[1] or subscript[2]).replace(" ", "")
            self.tokens.append(token)
            if len(self.tokens) > MAX_TOKENS:
                raise NotAFormula(text)

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise NotAFormula(self.text)
        self.position += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise NotAFormula(self.text)

    def _sum(self) -> _Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            operation = _add if self._next() == "+" else _subtract
            node = _apply(operation, node, self._product())
        return node

    def _product(self) -> _Node:
        node = self._signed()
        while True:
            token = self._peek()
            if token in _TIMES:
                self._next()
                node = _apply(_multiply, node, self._signed())
            elif token in _OVER:
                self._next()
                node = _apply(_divide, node, self._signed())
            elif self._starts_factor(token):
                if _is_digits(token) and _is_digits(self.tokens[self.position - 1]):
                    raise NotAFormula(self.text)  # "2 7" is two numbers
                node = _apply(_multiply, node, self._factor())
            else:
                return node

    def _signed(self) -> _Node:
        if self._peek() in ("+", "-"):
            return self._signed() if self._next() == "+" else _apply(_subtract, _constant(0), self._signed())
        return self._factor()

    def _starts_factor(self, token: str) -> bool:
        if token == "|":
            return not self.bars
        return bool(token) and (
            token[0].isalnum()
            or token[0] == "."
            or token in ("(", "[", "{")
            or token[0] == "\\" and token not in (*_TIMES, *_OVER, r"\rfloor", r"\rceil", r"\}", r"\%", r"\circ", r"\choose")
        )  # fmt: skip

    def _factor(self) -> _Node:
        start = self.position
        node = self._atom()
        is_mixed = (
            self.tokens[start].isdigit()
            and self.position == start + 1
            and self._peek() == r"\frac"
            and re.match(r"\\frac ?(?:\{[0-9]+\}|[0-9]) ?(?:\{[0-9]+\}|[0-9])(?! ?[!^])", self._rest())
        )
        if is_mixed:
            node = _apply(_add, node, self._atom())
        return self._with_suffixes(node)

    def _rest(self) -> str:
        return "".join(self.tokens[self.position : self.position + 9])

    def _with_suffixes(self, node: _Node) -> _Node:
        while True:
            token = self._peek()
            if token == "!":
                self._next()
                if self._peek() == "!":
                    raise NotAFormula(self.text)
                node = _apply(_factorial, node)
            elif token in ("%", r"\%"):
                self._next()
                node = _apply(_divide, node, _constant(100))
            elif token == "^":
                self._next()
                if self._is_degree():
                    node = _apply(_multiply, node, lambda point: point.mp.pi / 180)
                else:
                    node = _apply(_power, node, self._argument(whole_number=True))
            else:
                return node

    def _is_degree(self) -> bool:
        """Return whether a degree sign follows, which is then read."""
        for sign in ((r"\circ",), ("{", r"\circ", "}")):
            if tuple(self.tokens[self.position : self.position + len(sign)]) == sign:
                self.position += len(sign)
                return True
        return False

    def _argument(self, *, whole_number: bool = False) -> _Node:
        r"""Read {…}, or one token: the 1 of \frac12, but all of the 10 of 2^10."""
        token = self._peek()
        if token == "{":
            return self._group()
        if whole_number and token in ("-", "+"):
            self._next()
            node = self._argument(whole_number=True)
            return _apply(_subtract, _constant(0), node) if token == "-" else node
        if _is_digits(token) and not whole_number and len(token) > 1:
            if not token.isdigit():
                raise NotAFormula(self.text)
            self.tokens[self.position] = token[1:]
            return _constant(Fraction(token[0]))
        return self._atom()

    def _group(self) -> _Node:
        """Read a formula in brackets."""
        opening = self._next()
        bars, self.bars = self.bars, int(opening == "|")
        node = self._sum()
        self.bars = bars
        self._expect(_CLOSING[opening])
        return node

    def _atom(self) -> _Node:
        token = self._peek()
        if token in ("(", "[", "{"):
            return self._braces() if token == "{" else self._group()
        if token == "|":
            return _apply(_absolute, self._group())
        if token in (r"\lfloor", r"\lceil"):
            return _apply(functools.partial(_round, up=token == r"\lceil"), self._group())
        self._next()
        if _is_digits(token):
            return self._number(token)
        if token in (r"\frac", r"\binom"):
            one, other = self._argument(), self._argument()
            return _apply(_divide if token == r"\frac" else _binomial, one, other)
        if token == r"\sqrt":
            return self._square_root()
        if token[:1] == "\\" and token[1:] in _FUNCTIONS:
            return self._function(token[1:])
        return self._name(token)

    def _braces(self) -> _Node:
        r"""Read {…} or {n \choose k}."""
        self._next()
        bars, self.bars = self.bars, 0
        node = self._sum()
        if self._peek() == r"\choose":
            self._next()
            node = _apply(_binomial, node, self._sum())
        self.bars = bars
        self._expect("}")
        return node

    def _number(self, token: str) -> _Node:
        value = Fraction(token.replace(",", "").rstrip("."))
        if self._peek() == r"\overline":
            repeated = self.tokens[self.position + 1 : self.position + 4]
            if len(repeated) < 3 or not repeated[1].isdigit() or "." not in token:
                raise NotAFormula(self.text)
            self.position += 4
            places = len(token.partition(".")[2])
            value += Fraction(int(repeated[1]), 10**places * (10 ** len(repeated[1]) - 1))
        if self._peek() == "_":
            raise NotAFormula(self.text)
        return _constant(value)

    def _square_root(self) -> _Node:
        degree = _constant(2)
        if self._peek() == "[":
            degree = self._group()
        return _apply(_root, self._argument(), degree)

    def _function(self, name: str) -> _Node:
        base = exponent = None
        if name == "log" and self._peek() == "_":
            self._next()
            base = self._argument()
        if self._peek() == "^":
            self._next()
            inverse = [token for token in self.tokens[self.position : self.position + 4] if token not in "{}"][:2]
            exponent = self._argument(whole_number=True)
            if inverse == ["-", "1"] and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
                name, exponent = f"arc{name}", None
        argument = self._function_argument()
        if base is not None:
            node = _apply(_logarithm, argument, base)
        else:
            node = _apply(functools.partial(_call, _FUNCTIONS[name]), argument)
        return node if exponent is None else _apply(_power, node, exponent)

    def _function_argument(self) -> _Node:
        r"""Read (…), or a product without brackets: the 2x of \sin 2x."""
        if self._peek() in ("(", "[", "{"):
            node = self._atom()
            return self._with_suffixes(node) if self._peek() == "^" and self._degree_follows() else node
        node = self._signed()
        while (token := self._peek()) and (
            self._starts_factor(token) and token not in ("(", "[", "e") and token[1:] not in _FUNCTIONS or token == "/"
        ):
            if token == "/":
                self._next()
                node = _apply(_divide, node, self._factor())
            else:
                node = _apply(_multiply, node, self._factor())
        return node

    def _degree_follows(self) -> bool:
        return r"\circ" in self.tokens[self.position + 1 : self.position + 3]

    def _name(self, token: str) -> _Node:
        if token == r"\pi":
            return lambda point: +point.mp.pi
        if token == "e":
            return lambda point: +point.mp.e
        if token == "i":
            self.is_complex = True
            return lambda point: point.mp.mpc(0, 1)
        stem = token.split("_")[0]
        if not (stem[:1].isalpha() or stem[1:] in GREEK or stem.split(" ")[0] in _ACCENTS):
            raise NotAFormula(self.text)
        self.names.add(token)
        if stem.rstrip("'") in ("f", "g", "F", "G") and self._peek() == "(":
            return self._unknown_function(token)
        return lambda point: point.values[token]

    def _unknown_function(self, name: str) -> _Node:
        argument = self._group()
        return lambda point: _unknown_function(name, [argument(point)], point)


def _is_digits(token: str) -> bool:
    return token[:1].isdigit() or token[:1] == "."


def _is_product(run: str, before: str) -> bool:
    """Return whether adjacent letters are factors: two that are no word, or some without vowels, or of abcxyz."""
    letters = run.rstrip("'")
    if len(letters) == 2:
        return letters.lower() not in _SHORT_WORDS
    if len(letters) > 4 or before.endswith(" ") and before.rstrip()[-1:].isalnum():
        return False
    return not set(letters.lower()) & set("eiou") and not (
        "a" in letters.lower() and set(letters.lower()) - set("abcxyz")
    )


def _constant(value: int | Fraction) -> _Node:
    exact = Fraction(value)
    return lambda point: exact


def _apply(operation: Callable[..., Any], *nodes: _Node) -> _Node:
    return lambda point: operation(*(node(point) for node in nodes), point)


def product_letters(text: str) -> bool:
    """Return whether an answer that is only letters is a product of two or three variables, such as xy."""
    return len(text) == 2 and text.islower() and text not in _SHORT_WORDS or sorted(text) == ["x", "y", "z"]


def difference(one: Formula, other: Formula) -> Formula:
    """Return one formula minus another."""
    return Formula(
        tuple(sorted({*one.names, *other.names})), _apply(_subtract, one.evaluate, other.evaluate),
        one.is_complex or other.is_complex,
    )  # fmt: skip


def pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield adjacent pairs."""
    return itertools.pairwise(texts)
