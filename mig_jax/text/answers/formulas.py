r"""Comparison of formulas, and of sets of formulas.

`is_same_math` asks these rules in order; the first that knows decides:

    1. equal texts, after `normalize`
    2. notations of their own: numerals of a base, times, ratios (`notations`)
    3. the structure of both answers (`structure`): lists without order, tuples and intervals, matrices, unions and
       conditions on one variable, equations up to a factor; `x =` counts only if both answers have it
    4. of single values: exact numbers with their units (`quantities`)
    5. words: the same text
    6. formulas by their values (`arithmetic`)

A single value that none of them can read, such as an integral, is left to `algebra`: in a worker process to
math-verify, else the comparison is undecided.
"""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mig_jax.text.answers import arithmetic, structure
from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.normalize import TEXT_COMMAND, is_balanced, is_same_text, normalize
from mig_jax.text.answers.notations import is_same_notation, parse_base_numeral
from mig_jax.text.answers.quantities import (
    Number,
    are_compatible_units,
    is_known_unit,
    is_same_number,
    normalize_money,
    parse_number,
    parse_unit,
)
from mig_jax.text.answers.structure import MAX_DEPTH, Listing, Matrix, Node, Relation, Union_, Value

# Compares two single values that take algebra; None if undecided.
Algebra = Callable[[str, str], bool | None]

# Most members of a set that are compared.
MAX_MEMBERS = 200

ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A sum or product that is not evaluated. A factor 10^n is part of how a number is written, so it is excluded.
_UNEVALUATED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|(?<!_)[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
_TRAILING_TEXT = re.compile(rf"(?: ?(?:{TEXT_COMMAND} ?\{{[^{{}}]*\}}|\\cdot|/)(?: ?\^ ?\{{?-?[0-9]\}}?)?)+\Z")
_TRAILING_SIGN = re.compile(r" ?(?:%|\^ ?(?:\\circ|\{ ?\\circ ?\})(?: ?[CF])?)\Z")
_TRAILING_WORDS = re.compile(r"(?:(?<=[0-9)}%])|(?<=\\pi)|(?<=\\pi ))(?: [A-Za-z°][^=<>+*()]*| ?[\u3400-\u9fff\uac00-\ud7af].*)\Z")
_MONEY = re.compile(rf"(?P<sign>-?) ?(?:USD|Rs\.?|€|£|¥|₹|{TEXT_COMMAND} ?\{{ ?(?:USD|Rs\.?|EUR|RMB) ?\}}) ?(?P<sign_after>-?)")
_ANGLE_OF_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])[^+]*\Z")
_SET_NAME = re.compile(r"\A[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_BLANK_BESIDE_SYMBOL = re.compile(r" (?!\w)|(?<!\w) ")
_LETTERS = re.compile(r"(?:([A-Z])(?!.*\1)){2,}")
_LETTER_LIST = re.compile(r"[A-Z](?: ?(?:[,;]| and ) ?[A-Z])*|[A-Z]{2,}")
_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+")
_BRACKETED_LETTERS = re.compile(r"(?:\([A-Z]\)){2,}")
_ONE_LETTER = r"(?:[A-Za-z]|\\[A-Za-z]+)'*(?: ?_ ?(?:\{[^{}]*\}|\w))?"
# A reference that is a sentence of English, without a formula, equals only itself.
_SENTENCE = re.compile(r"\s*the answer is [^$\\]*\Z", re.IGNORECASE)
# What may be on the left of an equals sign whose right-hand side is the answer.
_NAME = re.compile(
    rf"(?:{_ONE_LETTER}(?: ?\^ ?\{{?-1\}}?)?(?: ?\((?:[^()=]|\([^()]*\))*\))?"  # x, a_n, f(x), P(A)
    rf"|\(? ?{_ONE_LETTER}(?:, ?{_ONE_LETTER})+ ?\)?"  # (x, y)
    r"|m? ?\\(?:angle|overline|vec|triangle|mathbf) ?\{? ?[A-Za-z]{1,4}(?:_\w)? ?\}?|m?∠ ?[A-Z]{1,3}"
    r"|\|? ?[A-Z]{2,4} ?\|?|\[[A-Z]{3,}\]|[A-Z]{1,2} ?[:/] ?[A-Z]{1,2}|\\frac ?\{ ?[A-Z]{1,2} ?\} ?\{ ?[A-Z]{1,2} ?\}"
    rf"|{TEXT_COMMAND} ?\{{[^{{}}]*\}}(?: ?_\w)?|[A-Za-z ]*[A-Za-z]{{3,}}[A-Za-z ]*)"
)
_FUNCTION = re.compile(r"[A-Za-z](?:_\w)? ?\( ?([A-Za-z]) ?\)")
_FLIPPED = {"<": ">", r"\leq": r"\geq", ">": "<", r"\geq": r"\leq"}
_LESS = ("<", r"\leq")


def is_same_math(
    response: str, reference: str, choices: Sequence[str] = (), *, algebra: Algebra | None = None
) -> bool | None:
    """Return whether two formulas are equal; None if that takes algebra.

    If the reference is a number, an unevaluated sum or product is wrong: otherwise the question itself, repeated, would
    count as an answer.
    """
    if _SENTENCE.match(reference) and not is_same_text(response, reference):
        return False
    given, wanted = normalize_money(response), normalize_money(reference)
    if given == wanted:
        return bool(wanted)
    if not given or not wanted:
        return False
    verdict = is_same_notation(given, wanted)
    if verdict is not None:
        return verdict
    if structure.depth(given) > MAX_DEPTH:
        return False
    return _Comparison(algebra).nodes(_read(given), _read(wanted))


def canonical_form(formula: str) -> str:
    """Return a key that is equal for equal formulas, as far as possible without algebra.

    The key of a number is its value; of any other normalized formula, its text without blanks beside symbols. Units are
    dropped.
    """
    number = parse_number(formula)
    return _BLANK_BESIDE_SYMBOL.sub("", strip_unit(formula)) if number is None else str(number.value)


def strip_unit(text: str) -> str:
    r"""Return a normalized formula without a trailing unit such as \text{cm}."""
    return _split_unit(text)[0]


def is_same_set(
    response: str,
    reference: str,
    choices: Sequence[str] = (),
    *,
    is_same: Callable[[str, str], bool | None] = is_same_math,
) -> bool | None:
    """Return whether two sets have the same members, in any order; None if that depends on an undecided comparison.

    Args:
      response: the given answer, see `set_members` for how a set may be written.
      reference: the reference answer.
      choices: not used.
      is_same: compares two members; None if undecided.
    """
    given, wanted = set_members(response), set_members(reference)
    if (letters := choice_letters(wanted)) is not None:
        return choice_letters(given) == letters
    return _same_members(given, wanted, is_same)


def set_members(answer: str) -> list[str]:
    r"""Return the distinct members of a set written as {1, 2}, as 1 and 2, as x = 1 or x = 2, or as \pm 1."""
    text = _SET_NAME.sub("", normalize_money(answer))
    inner = structure.enclosed(text)
    if inner and inner[0] in ("{", r"\{"):
        text = inner[1]
    elif inner and _LETTER_LIST.fullmatch(inner[1]):
        text = inner[1]
    if _BRACKETED_LETTERS.fullmatch(text.replace(" ", "")):
        text = ", ".join(re.findall("[A-Z]", text))
    if _THOUSANDS.fullmatch(text):
        return [text]
    parts, _ = structure.split(text, structure.SEPARATOR) if text != r"\emptyset" else ([], [])
    signed = (PLUS_MINUS.sub(sign, part).strip() for part in parts for sign in ("+", "-"))
    return list(dict.fromkeys(filter(None, signed)))


def choice_letters(members: Sequence[str]) -> set[str] | None:
    """Return the letters of choices, as in "A, C" or "AC"; None if a member is anything else."""
    if len(members) == 1 and _LETTERS.fullmatch(members[0]):
        return set(members[0])
    letters = [CHOICE.fullmatch(member) for member in members]
    found = {letter[1].upper() for letter in letters if letter}
    return found if letters and all(letters) else None


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> Node:
    """Return the structure of an answer, unless its brackets are nested too deeply."""
    if text.startswith(r"\boxed{") and text.count("{") > text.count("}"):
        text = text.removeprefix(r"\boxed{")
    return Value(text) if structure.depth(text) > MAX_DEPTH else structure.read(text)


class _Comparison:
    """Compares the structures of two answers."""

    def __init__(self, algebra: Algebra | None):
        self.algebra = algebra or (lambda given, wanted: None)

    def nodes(self, given: Node, wanted: Node) -> bool | None:
        """Return whether two answers are equal; None if undecided."""
        given, wanted = _without_assignment(given, wanted)
        if given == wanted:
            return True
        for rule in (self._regions, self._listings, self._relations, self._sequences, self._values):
            verdict = rule(given, wanted)
            if verdict is not NotImplemented:
                return verdict
        return False

    def _regions(self, given: Node, wanted: Node) -> Any:
        """Compare intervals and conditions on one variable, such as x < 2 or x > 3."""
        if not any(map(_is_condition, (given, wanted))):
            return NotImplemented
        one, other = _region(given), _region(wanted)
        if one is None or other is None:
            return NotImplemented
        if one.name and other.name and one.name != other.name or len(one.intervals) != len(other.intervals):
            return False
        return _same_members(one.intervals, other.intervals, self._intervals)

    def _intervals(self, given: "_Interval", wanted: "_Interval") -> bool | None:
        if (given.opening, given.closing) != (wanted.opening, wanted.closing):
            return False
        ends = zip((given.low, given.high), (wanted.low, wanted.high), strict=True)
        return _all(self.nodes(end, other) for end, other in ends)

    def _listings(self, given: Node, wanted: Node) -> Any:
        """Compare lists without order."""
        if isinstance(given, Value) and isinstance(wanted, Listing) and _THOUSANDS.fullmatch(given.text):
            given = Listing(tuple(map(Value, given.text.split(","))))
        if isinstance(wanted, Value) and isinstance(given, Listing) and _THOUSANDS.fullmatch(wanted.text):
            wanted = Listing(tuple(map(Value, wanted.text.split(","))))
        if isinstance(given, structure.Sequence) and isinstance(wanted, Listing):
            return self.nodes(given, tuple_) if (tuple_ := _tuple_of_assignments(wanted)) else False
        if isinstance(wanted, structure.Sequence) and isinstance(given, Listing):
            return self.nodes(tuple_, wanted) if (tuple_ := _tuple_of_assignments(given)) else False
        members = [
            node.members if isinstance(node, Listing) else () if node == Value(r"\emptyset") else (node,)
            for node in (given, wanted)
        ]
        if not isinstance(given, Listing) and not isinstance(wanted, Listing):
            return NotImplemented
        return _same_members(*(tuple(dict.fromkeys(nodes)) for nodes in members), self.nodes)

    def _sequences(self, given: Node, wanted: Node) -> Any:
        """Compare tuples, intervals, vectors, matrices and unions."""
        if isinstance(given, Matrix) and isinstance(wanted, Matrix):
            if len(given.rows) != len(wanted.rows) or len(given.rows[0]) != len(wanted.rows[0]):
                return False
            cells = zip(itertools.chain(*given.rows), itertools.chain(*wanted.rows), strict=False)
            return _all(itertools.starmap(self.nodes, cells))
        if isinstance(given, structure.Sequence) and isinstance(wanted, structure.Sequence):
            if len(given.members) != len(wanted.members) or {given.form, wanted.form} == {"row", "column"}:
                return False
            if "<" not in (given.opening, wanted.opening):
                if (given.opening, given.closing) != (wanted.opening, wanted.closing):
                    return False
            return _all(itertools.starmap(self.nodes, zip(given.members, wanted.members, strict=True)))
        if isinstance(given, Union_) and isinstance(wanted, Union_):
            return _same_members(given.members, wanted.members, self.nodes)
        return NotImplemented if isinstance(given, Value) and isinstance(wanted, Value) else False

    def _relations(self, given: Node, wanted: Node) -> Any:
        """Compare equations and inequalities."""
        if not isinstance(given, Relation) or not isinstance(wanted, Relation):
            return False if isinstance(given, Relation) or isinstance(wanted, Relation) else NotImplemented
        if len(given.operators) == len(wanted.operators) > 1:
            chains = [_less_first(node) for node in (given, wanted)]
            same = zip(*(chain.sides for chain in chains), strict=True)
            return chains[0].operators == chains[1].operators and _all(itertools.starmap(self.nodes, same))
        if len(given.operators) != 1 or len(wanted.operators) != 1:
            return False
        given, wanted = _less_first(given), _less_first(wanted)
        if given.operators != wanted.operators:
            return False
        is_symmetric = wanted.operators[0] in ("=", r"\neq")
        if wanted.operators[0] == "=" and (verdict := self._assignments(given, wanted)) is not None:
            return verdict
        orders = (wanted.sides, wanted.sides[::-1])[: 1 + is_symmetric]
        sides = [_all(itertools.starmap(self.nodes, zip(given.sides, order, strict=True))) for order in orders]
        if any(sides):
            return True
        verdict = _is_proportional(given, wanted)
        if verdict is None:
            return None if None in sides else False
        return bool(verdict) if is_symmetric else verdict > 0

    def _assignments(self, given: Relation, wanted: Relation) -> bool | None:
        """Compare `name = value`; None if one is another equation."""
        names = [_key(node.sides[0]) if _is_name(node.sides[0]) else "" for node in (given, wanted)]
        if all(names) and (names[0] == names[1] or _are_same_function(given, wanted)):
            verdict = self.nodes(given.sides[1], wanted.sides[1])
            # y = 2x and y = x + x; but e + 1 = e + 2 is no assignment.
            return verdict
        if names[1] and _is_number(wanted.sides[1]):
            # Another equation with this solution is the question, not the answer.
            return False
        return None

    def _values(self, given: Node, wanted: Node) -> bool | None:
        """Compare single values."""
        if not isinstance(given, Value) or not isinstance(wanted, Value):
            return False
        return self._texts(given.text, wanted.text)

    def _texts(self, given: str, wanted: str) -> bool | None:
        if given == wanted:
            return True
        numbers = parse_number(given), parse_number(wanted)
        if numbers[1] and not numbers[0]:
            # 5m is 5 metres only if the reference is in metres.
            attached = parse_number(given, letters="all")
            if attached and attached.unit and attached.unit == numbers[1].unit:
                numbers = attached, numbers[1]
        if numbers[0] and numbers[1]:
            return is_same_number(*numbers) and _are_same_words(numbers[0].words, numbers[1].words)
        (given, unit, words), (wanted, wanted_unit, wanted_words) = _split_unit(given), _split_unit(wanted)
        if not are_compatible_units(unit, wanted_unit) or not _are_same_words(words, wanted_words):
            return False
        if given == wanted and ("%" in (unit, wanted_unit)) == (unit == wanted_unit == "%"):
            return True
        if numbers[1] and _UNEVALUATED.search(given):
            return False
        if {unit, wanted_unit} == {"", "%"}:
            percent, plain = (given, wanted) if unit == "%" else (wanted, given)
            return _any((self._formulas(percent, plain), self._formulas(rf"\frac{{{percent}}}{{100}}", plain)))
        return self._formulas(given, wanted)

    def _formulas(self, given: str, wanted: str) -> bool | None:
        """Compare formulas by their values, or by algebra."""
        if _is_word(given) or _is_word(wanted) or parse_base_numeral(given) or parse_base_numeral(wanted):
            return _words_key(given) == _words_key(wanted)
        if {given.lstrip("+- "), wanted.lstrip("+- ")} & {r"\infty"}:
            return given.lstrip("+ ") == wanted.lstrip("+ ")
        given, wanted = _with_same_imaginary_unit(given, wanted)
        formulas = [_parse(text) for text in (given, wanted)]
        if None in formulas:
            return _words_key(given) == _words_key(wanted)
        one, other = formulas
        if isinstance(one, arithmetic.Formula) and isinstance(other, arithmetic.Formula):
            with contextlib.suppress(arithmetic.Unreadable):
                verdict = arithmetic.is_same_value(one, other)
                if verdict is not None:
                    return verdict
        return self._algebra(given, wanted)

    def _algebra(self, given: str, wanted: str) -> bool | None:
        if _BLANK_BESIDE_SYMBOL.sub("", given) == _BLANK_BESIDE_SYMBOL.sub("", wanted):
            return True
        return self.algebra(given, wanted)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> "arithmetic.Formula | str | None":
    """Return the formula that a text is, the text itself if it takes algebra, None if it is no formula."""
    try:
        return arithmetic.parse_formula(text)
    except arithmetic.NotAFormula:
        return None
    except arithmetic.Unreadable:
        return text


# -------------------------------------------------------------------------------------------------------- assignments


def _without_assignment(given: Node, wanted: Node) -> tuple[Node, Node]:
    """Drop what precedes the last equals sign where only one answer has it, and the middle of chains in both."""
    given, wanted = _named_first(given), _named_first(wanted)
    if _is_equation(wanted) and not isinstance(given, Relation) and _is_name(wanted.sides[0]):
        return given, wanted.sides[-1]
    if _is_equation(given) and not isinstance(wanted, Relation) and _has_answer_on_the_right(given):
        return given.sides[-1], wanted
    if _is_equation(given) and _is_equation(wanted):
        return _ends(given), _ends(wanted)
    return given, wanted


def _is_equation(node: Node) -> bool:
    return isinstance(node, Relation) and set(node.operators) == {"="}


def _ends(node: Relation) -> Relation:
    return Relation((node.sides[0], node.sides[-1]), ("=",))


def _named_first(node: Node) -> Node:
    """Return 2 = x as x = 2."""
    if _is_equation(node) and len(node.sides) == 2 and not _is_name(node.sides[0]) and _is_short_name(node.sides[1]):
        return Relation(node.sides[::-1], ("=",))
    return node


def _has_answer_on_the_right(equation: Relation) -> bool:
    """Return whether the last side of an equation may be meant as the answer.

    So it is after a name, after a number that has this value, and in x + y = 5; but not in x^2 - 4 = 0.
    """
    left, right = equation.sides[0], equation.sides[-1]
    if _is_name(left):
        return True
    if not isinstance(left, Value):
        return False
    try:
        formula = arithmetic.parse_formula(strip_unit(left.text))
    except arithmetic.Unreadable:
        return True
    if not formula.names and isinstance(right, Value):
        return _is_true_equation(formula, right.text)
    number = parse_number(right.text) if isinstance(right, Value) else None
    return number is not None and number.value != 0


def _is_true_equation(left: arithmetic.Formula, right: str) -> bool:
    try:
        return arithmetic.is_same_value(left, arithmetic.parse_formula(right if "%" in right else strip_unit(right))) is not False
    except arithmetic.Unreadable:
        return True


def _is_name(node: Node) -> bool:
    if isinstance(node, Value):
        return _NAME.fullmatch(node.text) is not None and parse_number(node.text) is None
    return isinstance(node, structure.Sequence) and all(map(_is_short_name, node.members))


def _is_short_name(node: Node) -> bool:
    return isinstance(node, Value) and re.fullmatch(_ONE_LETTER + r"(?: ?\( ?[a-z] ?\))?", node.text) is not None and node.text not in (r"\pi", "e", "i", r"\infty", r"\emptyset")  # fmt: skip


def _are_same_function(given: Relation, wanted: Relation) -> bool:
    """Return whether one equation begins with y and the other with f(x), or both define the same constant function."""
    names = [_key(node.sides[0]) for node in (given, wanted)]
    functions = [_FUNCTION.fullmatch(name) for name in names]
    if all(functions) and names[0][0] == names[1][0]:
        return _is_number(given.sides[-1]) and _is_number(wanted.sides[-1])
    return "y" in names and any(function and function[1] != "y" for function in functions)


def _tuple_of_assignments(listing: Listing) -> Node | None:
    """Return (1, 3) for x = 1, y = 3, in the order of the names; None for another list."""
    values: dict[str, Node] = {}
    for node in map(_named_first, listing.members):
        if not _is_equation(node) or not _is_short_name(node.sides[0]):
            return None
        values[_key(node.sides[0])] = node.sides[-1]
    if len(values) != len(listing.members) or len(values) < 2:
        return None
    return structure.Sequence("(", tuple(values[name] for name in sorted(values)), ")")


def _is_number(node: Node) -> bool:
    """Return whether a node is a constant."""
    if not isinstance(node, Value):
        return False
    try:
        return not arithmetic.parse_formula(strip_unit(node.text)).names
    except arithmetic.Unreadable:
        return parse_number(node.text) is not None


def _key(node: Node) -> str:
    return re.sub(r"[ {}]", "", node.text) if isinstance(node, Value) else str(node)


# ------------------------------------------------------------------------------------------------------------ regions


class _Interval:
    """An interval; its ends are nodes."""

    def __init__(self, opening: str, low: Node, high: Node, closing: str):
        low_is_open, high_is_open = _is_infinite(low), _is_infinite(high)
        self.opening, self.closing = "(" if low_is_open else opening, ")" if high_is_open else closing
        self.low, self.high = low, high


class _Region:
    """A union of intervals of a variable; "" if it has no name."""

    def __init__(self, intervals: list[_Interval], name: str = ""):
        self.intervals, self.name = intervals, name


_LOWEST, _HIGHEST = Value(r"-\infty"), Value(r"\infty")


def _is_infinite(node: Node) -> bool:
    return isinstance(node, Value) and node.text.lstrip("-+ ") == r"\infty"


def _is_condition(node: Node) -> bool:
    """Return whether a node is a union, or a condition such as x > 2."""
    if isinstance(node, Listing):
        return bool(node.members) and (
            all(map(_is_condition, node.members))
            or node.word == "or" and all(isinstance(member, structure.Sequence) for member in node.members)
        )
    return isinstance(node, Union_) or isinstance(node, Relation) and "=" not in node.operators


def _region(node: Node) -> _Region | None:
    """Return the region that a node describes; None if it is none on one variable."""
    if isinstance(node, structure.Sequence):
        if len(node.members) != 2 or node.opening not in "([" or node.closing not in ")]":
            return None
        return _Region([_Interval(node.opening, *node.members, node.closing)])
    if isinstance(node, Relation):
        return _region_of_condition(node)
    if not isinstance(node, Union_ | Listing) or not node.members:
        return None
    regions = [_region(member) for member in node.members]
    found = [region for region in regions if region]
    names = {region.name for region in found if region.name}
    if len(found) < len(regions) or len(names) > 1:
        return None
    name = next(iter(names), "")
    if isinstance(node, Listing) and node.word != "or" and all(isinstance(member, Relation) for member in node.members):
        return _intersection(found, name)
    return _Region([interval for region in found for interval in region.intervals], name)


def _region_of_condition(node: Relation) -> _Region | None:
    """Return the region of x > 2, x ≠ 2 or 1 < x < 2."""
    if "=" in node.operators:
        return None
    if node.operators == (r"\neq",):
        name, point = node.sides if _is_short_name(node.sides[0]) else node.sides[::-1]
        if not _is_short_name(name):
            return None
        return _Region([_Interval("(", _LOWEST, point, ")"), _Interval("(", point, _HIGHEST, ")")], _key(name))
    node = _less_first(node)
    if any(operator not in _LESS for operator in node.operators):
        return None
    openings = ["(" if operator == "<" else "[" for operator in node.operators]
    closings = [")" if operator == "<" else "]" for operator in node.operators]
    if len(node.sides) == 3 and _is_short_name(node.sides[1]):
        return _Region([_Interval(openings[0], node.sides[0], node.sides[2], closings[1])], _key(node.sides[1]))
    if len(node.sides) != 2:
        return None
    if _is_short_name(node.sides[0]):
        return _Region([_Interval("(", _LOWEST, node.sides[1], closings[0])], _key(node.sides[0]))
    if _is_short_name(node.sides[1]):
        return _Region([_Interval(openings[0], node.sides[0], _HIGHEST, ")")], _key(node.sides[1]))
    return None


def _intersection(regions: list[_Region], name: str) -> _Region | None:
    """Return where all conditions hold; None if the order of their bounds is unknown. x < 2, x > 3 is a union."""
    both = functools.reduce(_meet, (region.intervals for region in regions))
    if both is None:
        return None
    if not both and all(len(region.intervals) == 1 for region in regions):
        both = [interval for region in regions for interval in region.intervals]
    return _Region(both, name)


def _meet(one: "list[_Interval] | None", other: "list[_Interval] | None") -> "list[_Interval] | None":
    """Return the intersection of two unions of intervals; None if the order of their ends is unknown."""
    if one is None or other is None:
        return None
    found = []
    for first, second in itertools.product(one, other):
        low = _inner_end((first.low, first.opening), (second.low, second.opening), _LOWEST, 1)
        high = _inner_end((first.high, first.closing), (second.high, second.closing), _HIGHEST, -1)
        if low is None or high is None:
            return None
        interval = _Interval(low[1], low[0], high[0], high[1])
        ends = _constant(interval.low), _constant(interval.high)
        if None in ends and not (_is_infinite(interval.low) or _is_infinite(interval.high)):
            # Bounds on both sides, in letters: a < x and x < b.
            if len(one) == len(other) == 1:
                return [interval]
            return None
        if ends[0] is None or ends[1] is None or ends[0] < ends[1]:
            found.append(interval)
    return found


def _inner_end(one: tuple[Node, str], other: tuple[Node, str], outermost: Node, sign: int) -> tuple[Node, str] | None:
    """Return the end that is further inside, with its bracket; None if that is unknown."""
    if one[0] == outermost or other[0] == outermost:
        return other if one[0] == outermost else one
    values = _constant(one[0]), _constant(other[0])
    if values[0] is None or values[1] is None:
        return None
    if values[0] == values[1]:
        return one if one[1] in "()" else other
    return max((values[0], one), (values[1], other), key=lambda end: sign * end[0])[1]


def _constant(node: Node) -> float | None:
    if not isinstance(node, Value):
        return None
    try:
        return arithmetic.constant_value(arithmetic.parse_formula(node.text))
    except arithmetic.Unreadable:
        return None


def _less_first(node: Relation) -> Relation:
    """Return 3 > x as x < 3."""
    if node.operators[0] not in (">", r"\geq") or any(operator not in _FLIPPED for operator in node.operators):
        return node
    return Relation(node.sides[::-1], tuple(_FLIPPED[operator] for operator in reversed(node.operators)))


def _is_proportional(given: Relation, wanted: Relation) -> int | None:
    """Return the sign of the ratio of two relations, each as left minus right; 0 if it is not constant."""
    try:
        one, other = (
            arithmetic.difference(*(arithmetic.parse_formula(side.text) for side in node.sides if isinstance(side, Value)))
            for node in (given, wanted)
            if all(isinstance(side, Value) for side in node.sides)
        )
        return arithmetic.is_proportional(one, other)
    except arithmetic.NotAFormula:
        return 0
    except (arithmetic.Unreadable, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------ single values


@functools.lru_cache(maxsize=4096)
def _split_unit(text: str) -> tuple[str, str, str]:
    r"""Return a value without its unit, the unit, and other words after it: 2\sqrt{3}, "cm", "" for 2\sqrt{3}\text{ cm}."""
    money = _MONEY.match(text)
    if money and money.end() < len(text):
        body, unit, words = _split_unit(text[money.end() :])
        sign = money["sign"] or money["sign_after"]
        known = parse_unit(money[0].strip(" -."))
        return (f"{sign}{body}", unit or (known[0] if known else ""), words)
    for pattern in (_TRAILING_TEXT, _TRAILING_SIGN, _TRAILING_WORDS):
        match = pattern.search(text)
        body = text[: match.start()].strip() if match else ""
        if not match or not body or body[-1] in "+-*/=^_({[" or _is_word(body):
            continue
        if pattern is _TRAILING_SIGN and _ANGLE_OF_FUNCTION.search(body):
            continue
        if pattern is _TRAILING_WORDS and match[0].lstrip()[0].isascii() and not _is_bare_unit(match[0], body):
            continue
        found = parse_unit(match[0].strip())
        if found is not None and not (pattern is _TRAILING_TEXT and found == ("", "")):
            return body, *found
    return text, "", ""


def _is_bare_unit(unit: str, body: str) -> bool:
    """Return whether words after a formula without variables are a known unit."""
    try:
        return is_known_unit(unit) and len(unit.strip()) > 1 and not arithmetic.parse_formula(body).names
    except arithmetic.Unreadable:
        return False


@functools.lru_cache(maxsize=4096)
def _is_word(text: str) -> bool:
    """Return whether an answer is letters that are no product of variables."""
    letters = re.sub(rf"{TEXT_COMMAND} ?\{{([^{{}}]*)\}}", r"\1", text).replace(" ", "")
    return len(letters) > 1 and letters.isalpha() and not arithmetic.product_letters(letters)


def _words_key(text: str) -> str:
    """Return the form in which two answers with words are compared."""
    key = re.sub(rf"{TEXT_COMMAND} ?\{{([^{{}}]*)\}}", r" \1 ", text)
    key = _BLANK_BESIDE_SYMBOL.sub("", " ".join(key.split())).strip(" .")
    return key.casefold() if re.search("[^ -~]|[A-Za-z]{3}", key) else key


def _are_same_words(given: str, wanted: str) -> bool:
    return not given or not wanted or _singular(given) == _singular(wanted)


def _singular(words: str) -> str:
    return " ".join(word.lower().removesuffix("s") for word in words.split())


def _with_same_imaginary_unit(given: str, wanted: str) -> tuple[str, str]:
    """Return both with i for the imaginary unit where one of them has I for it."""
    has = [{letter for letter in "iI" if re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", text)} for text in (given, wanted)]
    if has == [{"I"}, {"i"}]:
        return re.sub(r"(?<![A-Za-z\\])I(?![A-Za-z])", "i", given), wanted
    if has == [{"i"}, {"I"}]:
        return given, re.sub(r"(?<![A-Za-z\\])I(?![A-Za-z])", "i", wanted)
    return given, wanted


# ----------------------------------------------------------------------------------------------------- three-valued logic


def _same_members(given: Sequence[Any], wanted: Sequence[Any], is_same: Callable[[Any, Any], bool | None]) -> bool | None:
    """Return whether each member of one list is in the other, too."""
    if len(given) > MAX_MEMBERS or len(wanted) > MAX_MEMBERS:
        return list(given) == list(wanted)
    if bool(given) != bool(wanted):
        return False
    expected = (_any(is_same(one, other) for other in wanted) for one in given if one not in wanted)
    found = (_any(is_same(one, other) for one in given) for other in wanted if other not in given)
    return _all(itertools.chain(expected, found))


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    """Return True if any verdict is True, else None if any is undecided, else False (Kleene's disjunction)."""
    undecided = False
    for verdict in verdicts:
        if verdict:
            return True
        undecided |= verdict is None
    return None if undecided else False


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Return False if any verdict is False, else None if any is undecided, else True (Kleene's conjunction)."""
    any_false = _any(None if verdict is None else not verdict for verdict in verdicts)
    return None if any_false is None else not any_false


__all__ = ["ASSIGNMENT", "Number", "canonical_form", "choice_letters", "is_balanced", "is_same_math", "is_same_set", "normalize", "set_members", "strip_unit"]  # fmt: skip
