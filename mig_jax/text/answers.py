r"""Is an answer right? As far as it can be told without algebra, by the kind of the answer.

    number          equal as numbers; units, currency signs and thousands separators aside, unless both name units
    expression      equal as mathematics
    choice          the letter of the choice, its text, or both, if they do not contradict each other
    yes_no          as affirmative or negative as the reference; True is Yes
    text            equal but for case, white space, a full stop at the end, and $…$ or \text{…} around it
    set             the same members in whatever order, each compared as an expression
    relaxed         within 5 % of the reference, or else equal but for case (ChartQA)
    integer         equal when cut off behind the decimal point (MathVista)
    rounded         equal when rounded to the decimal places of the reference (MathVista)
    nearest_choice  the choice whose letter is given, or else the one that is spelled most alike (MathVista)
    reasoning_gym   right for the task's own checker

What needs algebra, or the checker, is left to the worker processes of `verifier`. A kind is a function with a line in
`COMPARISONS`; one whose answers can be spelled in several ways also has one in `_SPELLINGS`.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.numbers import Number, is_same_number, parse_number, read_number
from mig_jax.text.response_format import lettered
from mig_jax.text.spelling import is_balanced, narrow, normalize, unwrap

# Brackets within brackets; time to read them doubles with each.
MAX_DEPTH = 12

_ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A sum or product that is still to be computed. Times a power of ten is how numbers are written.
_TO_BE_COMPUTED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
_SET_AS_TEXT = re.compile(r"\\(?:text|mathrm|mbox) ?\{[^{}]*\}")
_FACTOR = re.compile(r"(?<![A-Za-z\\])(?!x ?10 ?\^|(?:[ckm]m|kg|ft)\b)[A-Za-z]{1,3}(?![A-Za-z0-9+-])")
_UNIT_AS_TEXT = re.compile(
    r"(?:(?<=[0-9)}])|(?<=\\pi)|(?<=[^A-Za-z\\][a-z])) ?" + _SET_AS_TEXT.pattern + r"(?: ?\^ ?\{?[0-9]\}?)?\Z"
)

_CHOICE = re.compile(r"\(?([A-Za-z])(?:[.):]+(?:\s.*)?)?", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])[.):]*")
_LETTER_AND_TEXT = re.compile(r"\(?(?P<letter>[A-Za-z])(?P<mark>[.):]*)(?P<text>.*)", re.DOTALL)
_NEXT_LETTER = re.compile(r"(?:(?:and|or) )?\(?([A-Za-z])(?:[.):,]|\Z)")
_BRACKETED_LETTER = re.compile(r"\(([A-Za-z])\)")

_POLARITY = {"yes": True, "true": True, "no": False, "false": False}
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?:\s*[.,;:!\N{EM DASH}-].*|\s+(?:because|since)\b.*)?", re.DOTALL)

_SET_NAME = re.compile(r"\A[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
_SPACED_WORD = re.compile(r"\\(?:text|mathrm|mbox) ?\{ ?(and|or) ?\}")
_SEPARATOR_OR_BRACKET = re.compile(
    r"(?P<opening>[(\[{])|(?P<closing>[)\]}])|[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[和或]"
)
PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_LETTERS = re.compile(r"(?:([A-Z])(?!.*\1)){2,}")


def answer_variants(reference: str, *, kind: str, choices: Sequence[str] = (), limit: int) -> tuple[str, ...]:
    r"""Spellings of an answer that are all right, the reference as given first, such as 1.5, 3/2, \frac{3}{2}.

    Args:
      reference: the right answer; of a choice its letter.
      kind: one of COMPARISONS.
      choices: what may be chosen.
      limit: most spellings to return, at least 1.
    """
    reference = reference.strip()
    spellings = _SPELLINGS[kind](reference, choices) if kind in _SPELLINGS else ()
    right = (text for text in spellings if text and COMPARISONS[kind](text, reference, choices))
    return tuple(dict.fromkeys((reference, *right)))[:limit]


def is_same_quantity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """The same number, see `numbers`; where the reference is none, the same text."""
    given, wanted = read_number(response), read_number(reference)
    if wanted is None:
        return normalize(response).casefold() == normalize(reference).casefold()
    return given is not None and is_same_number(given, wanted)


def is_same_math(response: str, reference: str, choices: Sequence[str] = ()) -> bool | None:
    """Are two answers equal, as far as it can be told without algebra? None when it cannot.

    A sum or product is no answer where a number is asked for, or else repeating the question would be one.
    """
    given, wanted = _without_assignment(normalize(response), normalize(reference))
    given_number, wanted_number = _plain_number(given), _plain_number(wanted)
    if given_number and wanted_number:
        return is_same_number(given_number, wanted_number)
    given, wanted = without_unit(given), without_unit(wanted)
    if given == wanted:
        return True
    if wanted_number and _TO_BE_COMPUTED.search(given.rpartition("=")[2]):
        return False
    if _depth(given) > MAX_DEPTH:
        return False
    # To algebra (1, 2) is an interval that may be a pair, and a pair is a set.
    if {_bracket(given), _bracket(wanted)} in ({"{", "("}, {"{", "["}):
        return False
    # To algebra a word is a product of letters: Paris would equal pairs.
    if _is_prose(given) and _is_prose(wanted):
        return is_same_text(given, wanted)
    return None


def without_unit(text: str) -> str:
    """A normalized formula without the unit that is set as text behind it."""
    return _UNIT_AS_TEXT.sub("", text)


def is_same_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """The same choice: by its letter (B, b, (B), B., **B** or "B) because…"), by its text, or by both.

    A letter that is followed by the text of another choice is none. Without choices letters are compared, and texts
    where there are none.
    """
    response, reference = (unwrap(narrow(text).replace("**", "")) for text in (response, reference))
    options, letter = lettered(choices), _CHOICE.fullmatch(reference)
    wanted = letter[1].upper() if letter else ""
    if wanted in options:
        return _chooses(response, wanted, options)
    letter = _CHOICE.fullmatch(response)
    return letter[1].upper() == wanted if letter and wanted else is_same_text(response, reference)


def is_same_polarity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Both yes or both no, whatever follows it; where the reference is neither, the same text."""
    wanted = _polarity(reference)
    return is_same_text(response, reference) if wanted is None else _polarity(response) is wanted


def is_same_text(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Equal but for case, white space, a full stop at the end, and what stands around the whole."""
    one, other = (
        " ".join(unicodedata.normalize("NFC", unwrap(text)).casefold().split()) for text in (response, reference)
    )
    return one == other


def is_same_set(
    response: str,
    reference: str,
    choices: Sequence[str] = (),
    *,
    is_same: Callable[[str, str], bool | None] = is_same_math,
) -> bool | None:
    """The same members in whatever order; None when a comparison of members that matters is not decided.

    Args:
      is_same: compares two members.
    """
    given, wanted = _members(response), _members(reference)
    if (letters := _letters(wanted)) is not None:
        return _letters(given) == letters
    known = (_settle((is_same(one, other) for other in wanted), by=True) for one in given)
    found = (_settle((is_same(one, other) for one in given), by=True) for other in wanted)
    return _settle(itertools.chain(known, found), by=False)


def is_about_as_much(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """ChartQA's relaxed accuracy: 5 % off at most, where 7% is 0.07; the same text where one is no number, or it is 0.

    As in `relaxed_correctness` of pix2struct, to which the benchmark's results are computed.
    """
    given, wanted = _share(response), _share(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= 0.05
    return response.strip().lower() == reference.strip().lower()


def is_same_integer(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for integers: the response without what is behind its decimal point is spelled the same."""
    try:
        return str(int(float(response))) == reference.strip()
    except (ValueError, OverflowError):
        return False


def is_same_rounded(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for decimal numbers: the response, rounded to as many places as the reference has, equals it."""
    places = len(reference.strip().partition(".")[2])
    try:
        return round(float(response), places) == float(reference)
    except ValueError:
        return False


def is_nearest_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for choices: the first letter in brackets, or the only one; else the text that is nearest."""
    options = lettered(choices)
    if reference.strip() not in options:
        return is_same_choice(response, reference, choices)
    bracketed = _BRACKETED_LETTER.search(response)
    given = bracketed[1].upper() if bracketed else response.strip()
    chosen = options[given] if given in options else min(choices, key=lambda choice: edit_distance(given, choice))
    return chosen == options[reference.strip()]


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's, a column of the table at once: its steps up and down are the bits of two numbers.

    References:
      Hyyrö 2001, Explaining and extending the bit-parallel approximate string matching algorithm of Myers.
    """
    if not one:
        return len(other)
    everywhere, places = (1 << len(one)) - 1, defaultdict(int)
    for place, character in enumerate(one):
        places[character] |= 1 << place
    up, down, distance = everywhere, 0, len(one)
    for character in other:
        same = places[character]
        level = (((same & up) + up) ^ up) | same | down
        right, left = down | ~(level | up) & everywhere, level & up
        distance += (right >> len(one) - 1 & 1) - (left >> len(one) - 1 & 1)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(level | right)) & everywhere, right & level & everywhere
    return distance


def is_left_to_its_task(response: str, reference: str, choices: Sequence[str] = ()) -> None:
    """Only the task of reasoning-gym can tell."""


COMPARISONS: dict[str, Callable[[str, str, Sequence[str]], bool | None]] = {
    "number": is_same_quantity,
    "expression": is_same_math,
    "choice": is_same_choice,
    "yes_no": is_same_polarity,
    "text": is_same_text,
    "set": is_same_set,
    "relaxed": is_about_as_much,
    "integer": is_same_integer,
    "rounded": is_same_rounded,
    "nearest_choice": is_nearest_choice,
    "reasoning_gym": is_left_to_its_task,
}


def _without_assignment(given: str, wanted: str) -> tuple[str, str]:
    """Drops `x =` where it does not matter: on one side only, or the same on both."""
    matches = [_ASSIGNMENT.fullmatch(text) for text in (given, wanted)]
    if len({match[1] for match in matches if match}) != 1:
        return given, wanted
    given, wanted = (match[2] if match else text for match, text in zip(matches, (given, wanted), strict=True))
    return given, wanted


def _plain_number(text: str) -> Number | None:
    """A number that has no letters behind it which may be factors."""
    return None if _FACTOR.search(_SET_AS_TEXT.sub("", text)) else parse_number(text)


def _depth(text: str) -> int:
    """How many brackets are open at once."""
    return max(itertools.accumulate((sign in "([{") - (sign in ")]}") for sign in text), default=0)


def _bracket(text: str) -> str:
    """What a text is enclosed in."""
    return text.lstrip("\\")[:1] if text.endswith((")", "]", "}")) else ""


def _is_prose(text: str) -> bool:
    return text.replace(" ", "").isalpha() and max(map(len, text.split())) > 2


def _chooses(response: str, wanted: str, options: dict[str, str]) -> bool:
    letter = _LETTER.fullmatch(response)
    if letter and letter[1].upper() in options:
        return letter[1].upper() == wanted
    if _reads_as(response, options[wanted]):
        return True
    both = _LETTER_AND_TEXT.fullmatch(response)
    if not both or both["letter"].upper() != wanted:
        return False
    text = both["text"].strip(" \t\n-\N{EN DASH}\N{EM DASH}")
    if _reads_as(text, options[wanted]):
        return True
    next_letter = _NEXT_LETTER.match(text)
    is_another = any(_reads_as(text, option) for option in options.values()) or (
        next_letter and next_letter[1].upper() in options
    )
    return both["mark"] != "" and both["text"][:1].isspace() and not is_another


def _reads_as(text: str, choice: str) -> bool:
    return normalize(text).casefold() == normalize(choice).casefold()


def _polarity(answer: str) -> bool | None:
    """Yes or no; None when it is neither, or both."""
    text = unwrap(narrow(answer).replace("**", "")).casefold()
    words = set(re.findall(r"\w+", text))
    if words <= {*_POLARITY, "and", "or", "but"}:
        said = {_POLARITY[word] for word in words.intersection(_POLARITY)}
        return said.pop() if len(said) == 1 else None
    first = _YES_OR_NO.fullmatch(text)
    return _POLARITY[first[1]] if first else None


def _members(answer: str) -> list[str]:
    r"""The members of a set that is written as {1, 2}, as 1 and 2, as x = 1 or x = 2, or as \pm 1; each once."""
    text = _SET_NAME.sub("", _SPACED_WORD.sub(r" \1 ", normalize(answer)))
    for opening, closing in ((r"\{", r"\}"), ("{", "}")):
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and is_balanced(inner):
            text = inner
    parts, depth, start = [], 0, 0
    for sign in _SEPARATOR_OR_BRACKET.finditer(text):
        depth += bool(sign["opening"]) - bool(sign["closing"])
        if depth == 0 and not sign["closing"]:
            parts.append(text[start : sign.start()])
            start = sign.end()
    parts += [] if text == r"\emptyset" else [text[start:]]
    signed = (PLUS_MINUS.sub(sign, part).strip() for part in parts for sign in ("+", "-"))
    return list(dict.fromkeys(filter(None, signed)))


def _letters(members: Sequence[str]) -> set[str] | None:
    """The letters of choices, also without anything between them; None where there is anything else."""
    if len(members) == 1 and _LETTERS.fullmatch(members[0]):
        return set(members[0])
    letters = [_CHOICE.fullmatch(member) for member in members]
    return {letter[1].upper() for letter in letters} if letters and all(letters) else None


def _settle(verdicts: Iterable[bool | None], *, by: bool) -> bool | None:
    """`by` where one verdict is, None where one is not known, else the opposite: any (by True), or all (by False)."""
    undecided = False
    for verdict in verdicts:
        if verdict is by:
            return by
        undecided |= verdict is None
    return None if undecided else not by


def _share(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _spell_number(reference: str, choices: Sequence[str]) -> Iterator[str]:
    plain = normalize(reference)
    assignment = _ASSIGNMENT.fullmatch(plain)
    for text in filter(None, (plain, assignment and assignment[2])):
        yield text
        yield from _respell(parse_number(text))


def _respell(number: Number | None) -> Iterator[str]:
    """How else people write a number, likely spellings first."""
    if number is None:
        return
    value = number.value
    if number.is_percent:
        yield from (f"{text}{sign}" for text in _decimals(value) for sign in ("%", r"\%"))
        value /= 100
    yield from _decimals(value)
    over, under = value.as_integer_ratio()
    if 1 < under <= 100:
        sign = "-" if over < 0 else ""
        yield from (f"{over}/{under}", rf"{sign}\frac{{{abs(over)}}}{{{under}}}")
    if 0 < value < 1 and 100 % under == 0 and not number.is_percent:
        yield f"{value * 100}%"


def _decimals(value: Fraction) -> Iterator[str]:
    """A number in digits, when that takes at most four decimal places; large integers also with separators."""
    if value.denominator == 1:
        yield f"{value}"
        if abs(value) >= 1000:
            yield f"{value.numerator:,}"
        return
    for places in range(1, 5):
        scaled = abs(value) * 10**places
        if scaled.denominator == 1:
            digits = f"{scaled.numerator:0{places + 1}}"
            yield f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
            return


def _spell_choice(reference: str, choices: Sequence[str]) -> Iterator[str]:
    letter = _CHOICE.fullmatch(unwrap(reference))
    if letter:
        yield from (letter[1].upper(), f"({letter[1].upper()})", lettered(choices).get(letter[1].upper(), ""))


def _spell_yes_or_no(reference: str, choices: Sequence[str]) -> Iterator[str]:
    yield from (reference.capitalize(), reference.lower())


def _spell_set(reference: str, choices: Sequence[str]) -> Iterator[str]:
    members = _members(reference)
    yield from (", ".join(members), rf"\{{{', '.join(members)}\}}")
    if letters := _letters(members):
        yield from (", ".join(sorted(letters)), "".join(sorted(letters)))


# How else an answer is written; of other kinds there is one spelling.
_SPELLINGS: dict[str, Callable[[str, Sequence[str]], Iterator[str]]] = {
    "number": _spell_number,
    "expression": _spell_number,
    "choice": _spell_choice,
    "yes_no": _spell_yes_or_no,
    "set": _spell_set,
    "nearest_choice": _spell_choice,
}
