"""Keys of answers in majority votes: equal answers have equal keys."""

import functools
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from mig_jax.text.answers import arithmetic, equations, identities, parser, regions, scalars, structure
from mig_jax.text.answers.choices import is_nearest_choice, is_same_choice
from mig_jax.text.answers.compare import parse_share, polarity
from mig_jax.text.answers.normalize import TEXT_COMMAND, normalize
from mig_jax.text.answers.notations import parse_base_numeral, parse_clock, parse_ratio
from mig_jax.text.answers.quantities import normalize_money, parse_number, parse_number_answer
from mig_jax.text.answers.scalars import strip_unit
from mig_jax.text.answers.sets import choice_letters, set_members
from mig_jax.text.response_format import choices_by_letter

# Longer answers vote with their texts.
MAX_CHARACTERS = 600
# Decimal digits of a value in a key.
_DIGITS = 15
_ASSIGNMENT = re.compile(r"[A-Za-z]\w* ?= ?")


def vote_key(answer: str, *, kind: str, choices: Sequence[str] = ()) -> str:
    """Return the key under which an answer counts in a majority vote; "" is no vote.

    Answers that are equal by the comparison of their kind have equal keys, with two exceptions: units do not count, so
    that 18, $18 and 18 dollars are one vote; and a percentage counts as its number, 50% as 50. Formulas vote with their
    values, choices with their letters, lists with their sorted members.
    """
    from mig_jax.text.answers.kinds import find_kind  # which imports this module

    vote = find_kind(kind).vote
    key = vote(answer, choices) if vote else ""
    return key or normalize(answer).casefold()


def _number_key(answer: str, choices: Sequence[str]) -> str:
    """Return the value of a number, or ""."""
    number = parse_number_answer(answer)
    return "" if number is None else str(number.value)


def _expression_key(answer: str, choices: Sequence[str]) -> str:
    """Return the key of a formula, from its structure and the values of its parts."""
    text = normalize_money(answer)
    if len(text) > MAX_CHARACTERS or structure.depth(text) > structure.MAX_DEPTH:
        return ""
    if numeral := parse_base_numeral(text):
        return f"{numeral.digits}_{numeral.base}"
    # 3:11 without am or pm may also be a ratio.
    clock = parse_clock(text)
    if clock and clock.marker:
        return f"{clock.seconds} seconds"
    if ratio := parse_ratio(text):
        return str(ratio[0] / ratio[1]) if len(ratio) == 2 and ratio[1] else ":".join(map(str, _reduced(ratio)))
    return _node_key(structure.read(text))


def _reduced(ratio: Sequence[Fraction]) -> list[Fraction]:
    """Return a ratio with terms that add up to 1."""
    total = sum(map(abs, ratio)) or Fraction(1)
    return [term / total for term in ratio]


def _node_key(node: structure.Node) -> str:
    """Return the key of a part of an answer."""
    node = _without_names(node)
    if isinstance(node, structure.Value):
        return _value_key(node.text)
    region = regions.region_of(node) if regions.is_condition(node) else None
    if region:
        intervals = (f"{of.opening}{_node_key(of.low)},{_node_key(of.high)}{of.closing}" for of in region.intervals)
        return "|".join(sorted(intervals))
    if isinstance(node, structure.Listing):
        return "|".join(sorted(set(map(_node_key, node.members))))
    if isinstance(node, structure.Sequence):
        # Vectors may be written with any brackets.
        brackets = [bracket.replace("<", "(").replace(">", ")") for bracket in (node.opening, node.closing)]
        return ",".join(map(_node_key, node.members)).join(brackets)
    if isinstance(node, structure.Matrix):
        return "/".join(",".join(map(_node_key, row)) for row in node.rows)
    if isinstance(node, structure.Union_):
        return "|".join(sorted(set(map(_node_key, node.members))))
    return _relation_key(node)


def _without_names(node: structure.Node) -> structure.Node:
    """Return the value of x = 5, of 5 = x and of 2 + 3 = 5, and the tuple of x = 1, y = 2."""
    if isinstance(node, structure.Listing):
        return equations.tuple_of_assignments(node) or node
    node = equations.named_first(node)
    while isinstance(node, structure.Relation) and set(node.operators) == {"="}:
        if not equations.is_name(node.sides[0]) and not all(map(_is_constant, node.sides)):
            break
        node = node.sides[-1]
    return node


def _is_constant(node: structure.Node) -> bool:
    """Return whether a part is a formula without names."""
    try:
        return isinstance(node, structure.Value) and not parser.parse_formula(node.text).names
    except parser.Unreadable:
        return False


def _relation_key(relation: structure.Relation) -> str:
    """Return the key of an equation or inequality."""
    relation = equations.less_first(relation)
    texts = [side.text for side in relation.sides if isinstance(side, structure.Value)]
    if relation.operators == ("=",) and len(texts) == 2:
        try:
            left, right = map(parser.parse_formula, texts)
            return f"0={_fingerprint(identities.difference(left, right), is_equation=True)}"
        except parser.Unreadable:
            pass
    keys = [_node_key(side) for side in relation.sides]
    if set(relation.operators) <= {"=", r"\neq"}:
        keys.sort()
    return relation.operators[0].join(keys)


def _value_key(text: str) -> str:
    """Return the key of a single value: its number, the fingerprint of its formula, or its words."""
    number = parse_number(text)
    if number:
        return str(number.value)
    text = strip_unit(text)
    if scalars.is_word(text):
        return _words_key(text)
    try:
        formula = parser.parse_formula(text)
        if formula.names == ("I",):
            formula = parser.parse_formula(text.replace("I", "i"))
        key = _fingerprint(formula)
        # 3 * 14 is not the answer 42.
        return _words_key(text) if _is_rational(key) and scalars.UNEVALUATED.search(text) else key
    except (parser.Unreadable, ValueError):
        return _words_key(text)


def _is_rational(key: str) -> bool:
    """Return whether the key of a formula is an integer or fraction."""
    return re.fullmatch(r"-?[0-9]+(/[0-9]+)?", key) is not None


def _words_key(text: str) -> str:
    """Return the key of words, and of formulas that only algebra can read."""
    words = re.sub(rf"{TEXT_COMMAND} ?\{{([^{{}}]*)\}}", r" \1 ", text)
    return re.sub(r" (?!\w)|(?<!\w) ", "", " ".join(words.split())).casefold().strip(" .")


def _fingerprint(formula: parser.Formula, *, is_equation: bool = False) -> str:
    """Return a text that formulas with equal values share: the value, or the names and values at two points.

    Of an equation, given as left minus right, only the ratio of the values counts: x = 1 is 2x = 2.

    Raises:
      Unreadable: it has no values.
    """
    values: list[Any] = []
    for value, _, point in identities.values_at_points(formula.names, formula, formula):
        values.append((value, point.mp))
        if len(values) == 3:
            break
    if not values:
        raise parser.Unreadable(str(formula.names))
    if is_equation:
        (first, mp), *others = values
        values = [
            (arithmetic.to_mp(value, mp) / arithmetic.to_mp(first, mp) if first else value, mp) for value, _ in others
        ]
    return " ".join((*formula.names, *(_digits(value, mp) for value, mp in values)))


def _digits(value: Any, mp: Any) -> str:
    """Return a value as a fraction, if it is one of few digits, else in decimal digits."""
    if isinstance(value, Fraction):
        return str(value)
    number = mp.mpc(value)
    real, imaginary = (_real_digits(part, mp) for part in (number.real, number.imag))
    return real if imaginary == "0" else f"{real}+i{imaginary}"


def _real_digits(part: Any, mp: Any) -> str:
    """Return a real value as a fraction or in decimal digits; a rounding error is 0."""
    if abs(part) > 10**9 or 0 < abs(part) < 10**-9 and abs(part) > mp.mpf(10) ** -25:
        return mp.nstr(part, _DIGITS)
    fraction = Fraction(mp.nstr(part, mp.dps)).limit_denominator(10**6)
    is_rational = abs(mp.mpf(fraction.numerator) / fraction.denominator - part) < mp.mpf(10) ** -25
    return str(fraction) if is_rational else mp.nstr(part, _DIGITS)


def _choice_key(answer: str, choices: Sequence[str], *, is_same: Callable[[str, str, Sequence[str]], bool]) -> str:
    """Return the letter of the choice that an answer names, or ""; without choices any letter from A to Z."""
    letters = choices_by_letter(choices) or map(chr, range(ord("A"), ord("Z") + 1))
    return next((letter.lower() for letter in letters if is_same(answer, letter, choices)), "")


def _yes_no_key(answer: str, choices: Sequence[str]) -> str:
    """Return "yes", "no" or ""."""
    return {True: "yes", False: "no", None: ""}[polarity(answer)]


def _set_key(answer: str, choices: Sequence[str]) -> str:
    """Return the sorted members of a set, each with the key of its formula."""
    members = set_members(answer)
    if letters := choice_letters(members):
        return ", ".join(sorted(letters)).lower()
    assignments = [_ASSIGNMENT.match(member) for member in members]
    # x = 1, x = 2 is 1, 2; but x = 1, y = 2 is another answer than x = 2, y = 1.
    has_names = len({match[0][0] for match in assignments if match}) > 1
    keys = {
        (match[0] if match and has_names else "") + _expression_key(member, ())
        for member, match in zip(members, assignments, strict=True)
    }
    return ", ".join(sorted(keys)) or ("{}" if answer.strip() else "")


def _share_key(answer: str, choices: Sequence[str]) -> str:
    """Return the finite number that a text is, or ""."""
    share = parse_share(answer)
    return "" if share is None or not math.isfinite(share) else str(share)


# Functions that return the key of an answer in a majority vote; for other kinds it is the normalized text.
VOTE_KEYS: dict[str, Callable[[str, Sequence[str]], str]] = {
    "number": _number_key,
    "expression": _expression_key,
    "choice": functools.partial(_choice_key, is_same=is_same_choice),
    "yes_no": _yes_no_key,
    "set": _set_key,
    **dict.fromkeys(("relaxed", "integer", "rounded"), _share_key),
    "nearest_choice": functools.partial(_choice_key, is_same=is_nearest_choice),
}
