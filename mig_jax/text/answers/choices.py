"""Comparison of choices, by their letters and by their texts."""

import functools
import re
from collections import defaultdict
from collections.abc import Sequence

from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.normalize import FONT_COMMANDS, clean_characters, is_same_text, normalize, strip_lead_in
from mig_jax.text.response_format import choices_by_letter

# Longest text that is compared with the choices as mathematics, and what it must have.
_MAX_FORMULA = 100
_MATHEMATICS = re.compile(r"[0-9\\^²³√π]")
CHOICE = re.compile(r"\(?([A-Za-z])(?:[.):]+(?:\s.*)?)?", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])[.):]*")
_LETTER_AND_TEXT = re.compile(r"\(?(?P<letter>[A-Za-z])(?P<mark>[.):,]*)(?P<text>.*)", re.DOTALL)
_NEXT_LETTER = re.compile(r"(?:(?:and|or) )?\(?([A-Za-z])(?:[.):,]|\Z)")
_BOXED_LETTER = re.compile(r"\[ ?[A-Za-z] ?\]")
_BRACKETED_LETTER = re.compile(r"\(([A-Za-z])\)")
# What may follow a letter without a mark, before a reason.
_REASON = re.compile(
    r"(?:\s|,)\s*(?:because|since|as|for|is (?:correct|right|the)|it|the|this|that)\b|\s*\n"
    r"|,?\s*(?:因为|由于|是因为)",
    re.IGNORECASE,
)
# Words that call a letter a choice, before or after it.
_CALLED = re.compile(
    r"(?i:(?:the )?(?:correct |right )?(?:option|choice|answer)) ?(?:is )?(?=\(?[A-Za-z](?![A-Za-z]))"
    r"|(?:故|因此|所以|应)?(?:正确)?(?:选项?|选择|答案?(?:是|为|:))[是为:]? ?(?=\(?[A-Za-z])"
)
_CALLED_AFTER = re.compile(r"(?<=[A-Za-z)]) ?(?:项|选项|正确)\Z")
_FONT = re.compile(rf"\\(?:{'|'.join(FONT_COMMANDS)}) ?\{{([^{{}}]*)\}}")


def is_same_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether a response names the reference choice by its letter, its text, or both.

    A letter may be written as B, b, (B), B., **B** or "B) because…". A letter followed by the text of another choice
    names neither. Without choices, letters are compared, or texts if the reference is not a letter.

    Args:
      response: the given answer.
      reference: letter of the right choice.
      choices: texts of all choices, in the order of their letters A, B, …
    """
    response, reference = map(_plain, (response, reference))
    options, letter = choices_by_letter(choices), CHOICE.fullmatch(reference)
    wanted = letter[1].upper() if letter else ""
    if wanted in options:
        return _names_option(response, wanted, options)
    letter = CHOICE.fullmatch(response)
    return letter[1].upper() == wanted if letter and wanted else is_same_text(response, reference)


def is_nearest_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether a response names the reference choice by MathVista's rule.

    The first letter in brackets counts, or else a response that is one capital letter. Otherwise the choice nearest to
    the response by edit distance counts. Without choices, the rule of `is_same_choice` applies.
    """
    options = choices_by_letter(choices)
    if reference.strip() not in options:
        return is_same_choice(response, reference, choices)
    bracketed = _BRACKETED_LETTER.search(response)
    given = bracketed[1].upper() if bracketed else response.strip()
    chosen = options[given] if given in options else min(choices, key=lambda choice: edit_distance(given, choice))
    return chosen == options[reference.strip()]


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of two texts.

    One column of the dynamic-programming table is computed at a time. The bits of two integers hold where the column
    increases and decreases.

    References:
      Hyyrö 2001, Explaining and extending the bit-parallel approximate string matching algorithm of Myers.
    """
    if not first:
        return len(second)
    all_bits = (1 << len(first)) - 1
    bits_of = defaultdict(int)
    for position, character in enumerate(first):
        bits_of[character] |= 1 << position
    up, down, distance = all_bits, 0, len(first)
    for character in second:
        same = bits_of[character]
        level = (((same & up) + up) ^ up) | same | down
        right, left = down | ~(level | up) & all_bits, level & up
        distance += (right >> len(first) - 1 & 1) - (left >> len(first) - 1 & 1)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(level | right)) & all_bits, right & level & all_bits
    return distance


def _plain(text: str) -> str:
    r"""Return an answer without fonts, braces and the words that call a letter a choice: (D) 4 for \textbf{(D)}\ 4."""
    text = strip_lead_in(clean_characters(text).replace("**", ""))
    if text.startswith(("\\", "(\\")):
        text = _FONT.sub(r"\1 ", text.replace("\\ ", " ").replace("~", " "), count=1).strip()
        text = text.replace(" )", ")")
    if text[:1] + text[-1:] == "{}" or _BOXED_LETTER.fullmatch(text):
        text = text[1:-1].strip()
    text = text.replace("\N{IDEOGRAPHIC COMMA}", ". ").replace("\N{IDEOGRAPHIC FULL STOP}", ". ")
    return strip_lead_in(_CALLED_AFTER.sub("", _CALLED.sub("", text, count=1) if _CALLED.match(text) else text))


def _names_option(response: str, wanted: str, options: dict[str, str]) -> bool:
    """Return whether a response names the option with the wanted letter, and no other."""
    letter = _LETTER.fullmatch(response)
    if letter and letter[1].upper() in options:
        return letter[1].upper() == wanted
    if _is_same_normalized(response, options[wanted]) or _letters_of_value(response, tuple(options.items())) == [
        wanted
    ]:
        return True
    both = _LETTER_AND_TEXT.fullmatch(response)
    if not both or both["letter"].upper() != wanted:
        return False
    text = both["text"].strip(" \t\n-\N{EN DASH}\N{EM DASH}")
    if _is_same_normalized(text, options[wanted]) or _letters_of_value(text, tuple(options.items())) == [wanted]:
        return True
    if any(_is_same_normalized(text, option) for option in options.values()) or _letters_of_value(
        text, tuple(options.items())
    ):
        return False
    next_letter = _NEXT_LETTER.match(text)
    if next_letter and next_letter[1].upper() in options:
        return False
    if both["letter"].isupper() and _REASON.match(response, 1 + both.start("letter")):
        return True
    return both["mark"].strip(",") != "" and both["text"][:1].isspace()


@functools.lru_cache(maxsize=4096)
def _letters_of_value(text: str, options: tuple[tuple[str, str], ...]) -> list[str]:
    """Return the letters of the options that are equal to a text as mathematics; [] for a text without any."""
    if len(text) > _MAX_FORMULA or not _MATHEMATICS.search(text):
        return []
    return [letter for letter, option in options if _MATHEMATICS.search(option) and is_same_math(text, option)]


def _is_same_normalized(text: str, choice: str) -> bool:
    """Return whether two texts are equal after normalization, ignoring case."""
    return normalize(text).casefold() == normalize(choice).casefold()
