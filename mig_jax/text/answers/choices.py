"""Choices, by their letters and by their texts."""

import re
from collections import defaultdict
from collections.abc import Sequence

from mig_jax.text.answers.normalize import is_same_text, narrow, normalize, unwrap
from mig_jax.text.response_format import choices_by_letter

CHOICE = re.compile(r"\(?([A-Za-z])(?:[.):]+(?:\s.*)?)?", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])[.):]*")
_LETTER_AND_TEXT = re.compile(r"\(?(?P<letter>[A-Za-z])(?P<mark>[.):]*)(?P<text>.*)", re.DOTALL)
_NEXT_LETTER = re.compile(r"(?:(?:and|or) )?\(?([A-Za-z])(?:[.):,]|\Z)")
_BRACKETED_LETTER = re.compile(r"\(([A-Za-z])\)")


def is_same_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """The same choice: by its letter (B, b, (B), B., **B** or "B) because…"), by its text, or by both.

    A letter that is followed by the text of another choice is none. Without choices letters are compared, and texts
    where there are none.
    """
    response, reference = (unwrap(narrow(text).replace("**", "")) for text in (response, reference))
    options, letter = choices_by_letter(choices), CHOICE.fullmatch(reference)
    wanted = letter[1].upper() if letter else ""
    if wanted in options:
        return _chooses(response, wanted, options)
    letter = CHOICE.fullmatch(response)
    return letter[1].upper() == wanted if letter and wanted else is_same_text(response, reference)


def is_nearest_choice(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for choices: the first letter in brackets, or a capital alone; else the text that is nearest."""
    options = choices_by_letter(choices)
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


def _chooses(response: str, wanted: str, options: dict[str, str]) -> bool:
    """Whether a response names the option with the wanted letter, and no other."""
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
