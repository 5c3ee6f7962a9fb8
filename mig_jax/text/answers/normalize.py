"""Normalization of answers that differ only in notation."""

import re
import unicodedata
from collections.abc import Sequence

# Pairs that may enclose a whole answer.
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    *((rf"\{command}{{", "}") for command in ("boxed", "text", "textbf", "textrm", "mathrm", "mathbf", "mbox")),
)

# Notations with the same meaning: the left one is replaced by the right one.
_REPLACEMENTS = (
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\displaystyle", " "),
    (r"\!", ""),
    (r"\,", " "),
    (r"\;", " "),
    (r"\quad", " "),
    ("~", " "),
    ("{,}", ","),
    (r"\$", " "),
    ("$", " "),
    (r"\%", "%"),
    ("**", "^"),
    (r"\mathrm{i}", "i"),
    (r"\mathrm{e}", "e"),
    ("\N{MINUS SIGN}", "-"),
    ("\N{EN DASH}", "-"),
    ("\N{DEGREE SIGN}", r"^\circ"),
    ("\N{DEGREE CELSIUS}", r"^\circ C"),
    ("\N{GREEK SMALL LETTER PI}", r"\pi "),
    ("\N{MULTIPLICATION SIGN}", r"\times "),
    ("\N{MIDDLE DOT}", r"\cdot "),
    ("\N{INFINITY}", r"\infty "),
    ("\N{ALMOST EQUAL TO}", r"\approx "),
    ("\N{PLUS-MINUS SIGN}", r"\pm "),
    ("\N{EMPTY SET}", r"\emptyset "),
    (r"\varnothing", r"\emptyset"),
    ("\N{FRACTION SLASH}", "/"),
    ("\N{IDEOGRAPHIC COMMA}", ","),
)
_SIZED_BRACKET = re.compile(r"\\(?:left|right)(?![A-Za-z])")
_CONTROL_SPACE = re.compile(r"(?<!\\)\\ ")
# Function names without their backslash, if an argument follows, and pi.
_BARE_COMMAND = re.compile(
    r"(?<![A-Za-z\\])(?:pi(?![A-Za-z])|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp)"
    r"(?=(?<=pi)|[ ^_]?[0-9({\\]| [a-z](?![a-z]))"
)
_ROOT = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z\\])sqrt) ?([0-9]+|[A-Za-z](?![A-Za-z]))")
_ROOT_OR_PARENTHESIS = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z])\\?sqrt) ?\(|[()]")
_SUPERSCRIPT = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")

# Full-width characters, as typed in Chinese text; zero-width characters, direction marks included.
_FULLWIDTH_TO_ASCII = dict(zip(range(0xFF01, 0xFF5F), map(chr, range(0x21, 0x7F)), strict=True))
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


def normalize(answer: str) -> str:
    r"""Return an answer in one notation, without wrappers, bracket sizes and extra spaces.

    Synonyms in LaTeX and Unicode become one, such as \tfrac and \frac, or × and \times.
    """
    text = strip_wrappers(clean_characters(answer))
    text = _VULGAR_FRACTION.sub(_vulgar_fraction_to_latex, _SUPERSCRIPT.sub(_superscript_to_latex, text))
    text = _roots_to_latex(_ROOT.sub(r"\\sqrt{\1}", text))
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    text = _CONTROL_SPACE.sub(" ", _SIZED_BRACKET.sub("", text))
    return " ".join(_BARE_COMMAND.sub(_name_to_command, text).split())


def is_same_text(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether two texts are equal, ignoring case, whitespace, a final full stop and enclosing wrappers."""
    return _text_key(response) == _text_key(reference)


def clean_characters(text: str) -> str:
    """Replace full-width characters with ASCII and delete zero-width ones."""
    return text.translate(_FULLWIDTH_TO_ASCII).translate(_INVISIBLE)


def strip_wrappers(text: str) -> str:
    r"""Strip a final full stop and the wrappers around the whole text ($…$, **…**, \boxed{…}), layer by layer."""
    text = text.strip()
    if text.endswith((".", "\N{IDEOGRAPHIC FULL STOP}")):
        text = text[:-1].rstrip()
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        is_wrapped = text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing)
        if is_wrapped and opening not in inner and is_balanced(inner):
            return strip_wrappers(inner)
    return text


def is_balanced(text: str) -> bool:
    """Return whether no brace is closed before it is opened."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return True


def _text_key(text: str) -> str:
    """Return the form of a text that `is_same_text` compares."""
    return " ".join(unicodedata.normalize("NFC", strip_wrappers(text)).casefold().split())


def _roots_to_latex(text: str) -> str:
    r"""Rewrite sqrt(x) as \sqrt{x}."""
    closing = []

    def rewrite(match: re.Match) -> str:
        if match[0] == ")":
            return closing.pop() if closing else ")"
        closing.append(")" if match[0] == "(" else "}")
        return "(" if match[0] == "(" else r"\sqrt{"

    return _ROOT_OR_PARENTHESIS.sub(rewrite, text)


def _superscript_to_latex(match: re.Match) -> str:
    """Rewrite x² as x^{2}."""
    return f"^{{{match[0].translate(_SUPERSCRIPTS)}}}"


def _vulgar_fraction_to_latex(match: re.Match) -> str:
    r"""Rewrite ½ as \frac{1}{2}."""
    over, under = unicodedata.normalize("NFKC", match[0]).split("\N{FRACTION SLASH}")
    return rf"\frac{{{over}}}{{{under}}}"


def _name_to_command(match: re.Match) -> str:
    r"""Rewrite sin as \sin."""
    return rf"\{match[0]} "
