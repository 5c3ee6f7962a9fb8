"""The tokens of a formula, for `parser`: numbers, commands, names with their subscripts, signs."""

import re

# Most tokens of a formula.
MAX_TOKENS = 300

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar".split()
)
ACCENTS = {r"\vec", r"\hat", r"\bar", r"\tilde", r"\mathbf", r"\mathbb", r"\mathcal", r"\overrightarrow", r"\bm"}
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
    """A formula takes algebra."""


class NotAFormula(Unreadable):
    """A text is no formula: it holds words or several numbers, or something is missing."""


def split_tokens(formula: str) -> list[str]:
    """Return the tokens of a formula.

    Raises:
      NotAFormula: it holds words, or characters that formulas have not.
    """
    tokens: list[str] = []
    position, text = 0, formula.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) > MAX_TOKENS:
            raise NotAFormula(text)
        *letters, token = _letters(match["token"], text[: match.start("token")])
        tokens += letters
        position = match.end()
        if token in _ROMAN or token in ACCENTS:
            token, position = _set_letter(token, text, position)
        if token[0].isalpha() or token[1:] in GREEK or token.split()[0] in ACCENTS:
            subscript = _SUBSCRIPT.match(text, position)
            if subscript:
                position = subscript.end()
                token += "_" + (subscript[1] or subscript[2]).replace(" ", "")
        tokens.append(token)
    return tokens


def product_letters(text: str) -> bool:
    """Return whether an answer that is only letters is a product of two or three variables, such as xy."""
    return len(text) == 2 and text.islower() and text not in _SHORT_WORDS or sorted(text) == ["x", "y", "z"]


def _letters(token: str, before: str) -> list[str]:
    """Return the letters of a product such as xy, the last one with its primes; of other tokens the token."""
    letters = token.rstrip("'")
    if not token[0].isalpha() or len(letters) < 2:
        return [token]
    if not _is_product(letters, before):
        raise NotAFormula(token)
    return [*letters[:-1], token[len(letters) - 1 :]]


def _set_letter(command: str, text: str, position: int) -> tuple[str, int]:
    r"""Return the letter that a command of a font or accent sets, such as \mathrm{e}, and where it ends."""
    group = _NAMED_GROUP.match(text, position)
    if group is None or command in _ROMAN and len(group[1]) > 1:
        raise NotAFormula(text)
    return (group[1] if command in _ROMAN else f"{command} {group[1]}"), group.end()


def _is_product(letters: str, before: str) -> bool:
    """Return whether adjacent letters are factors: two that are no word, or some without vowels, or of abcxyz."""
    if len(letters) == 2:
        return letters.lower() not in _SHORT_WORDS
    if len(letters) > 4 or before.endswith(" ") and before.rstrip()[-1:].isalnum():
        return False
    return not set(letters.lower()) & set("eiou") and not (
        "a" in letters.lower() and set(letters.lower()) - set("abcxyz")
    )
