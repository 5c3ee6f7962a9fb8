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

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.numbers import Number, is_same_number, parse_number, read_number
from mig_jax.text.response_format import lettered
from mig_jax.text.spelling import is_balanced, narrow, normalize, unwrap

_ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A sum or product that is still to be computed. Times a power of ten is how numbers are written.
_TO_BE_COMPUTED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|[0-9)](?: [0-9]| ?\()|\\(?:sum|prod|int|lim)(?![a-z])",
    re.IGNORECASE,
)
# To algebra m is a factor, unless it is set as text.
_LONE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z0-9+-])")
_SET_AS_TEXT = re.compile(r"\\(?:text|mathrm) ?\{[^{}]*\}")

_CHOICE = re.compile(r"\(?([A-Za-z])(?:[.):]+(?:\s.*)?)?", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])[.):]*")
_LETTER_AND_TEXT = re.compile(r"\(?(?P<letter>[A-Za-z])(?P<mark>[.):,]*)(?P<text>.*)", re.DOTALL)
_BRACKETED_LETTER = re.compile(r"\(([A-Za-z])\)")

_POLARITY = {"yes": True, "true": True, "no": False, "false": False}
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?:\s*[.,;:!\N{EM DASH}-].*|\s+(?:because|since)\b.*)?", re.DOTALL)

_SET_NAME = re.compile(r"[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
_SPACED_WORD = re.compile(r"\\(?:text|mathrm|mbox) ?\{ ?(and|or) ?\}")
_SEPARATOR_OR_BRACKET = re.compile(
    r"(?P<opening>[(\[{])|(?P<closing>[)\]}])|[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[和或]"
)


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
    if given == wanted:
        return True
    given_number, wanted_number = _plain_number(given), _plain_number(wanted)
    if given_number and wanted_number:
        return is_same_number(given_number, wanted_number)
    if wanted_number and _TO_BE_COMPUTED.search(given.rpartition("=")[2]):
        return False
    # To algebra (1, 2) is an interval that may be a pair, and a pair is a set.
    if {_bracket(given), _bracket(wanted)} in ({"{", "("}, {"{", "["}):
        return False
    # To algebra a word is a product of letters: Paris would equal pairs.
    if _is_prose(given) and _is_prose(wanted):
        return is_same_text(given, wanted)
    return None


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
    covers = lambda some, others: _settle((_settle((is_same(*pair) for pair in others(one)), True) for one in some), False)  # noqa
    raise NotImplementedError


COMPARISONS: dict[str, Callable[[str, str, Sequence[str]], bool | None]] = {}
_SPELLINGS = {}
