"""One spelling for answers that differ only in dress."""

import re
import unicodedata
from collections.abc import Sequence

# What may stand around a whole answer.
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    *((rf"\{command}{{", "}") for command in ("boxed", "text", "textbf", "textrm", "mathrm", "mathbf", "mbox")),
)

# Different ways to write the same; the left one is replaced.
_SYNONYMS = (
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
# Names that LaTeX writes as commands, where an argument follows.
_BARE_NAME = re.compile(
    r"(?<![A-Za-z\\])(?:pi(?![A-Za-z])|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp)"
    r"(?=(?<=pi)|[ ^_]?[0-9({\\]| [a-z](?![a-z]))"
)
_ROOT = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z\\])sqrt) ?([0-9]+|[A-Za-z](?![A-Za-z]))")
_PARENTHESIS = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z])\\?sqrt) ?\(|[()]")
_POWER = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_RAISED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_FRACTION = re.compile("[¼-¾⅐-⅞]")

# Signs of full width, as they stand beside Chinese ones; and those that nobody sees.
_NARROWED = dict(zip(range(0xFF01, 0xFF5F), map(chr, range(0x21, 0x7F)), strict=True))
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


def normalize(answer: str) -> str:
    """One spelling for what differs only in dress: wrappers, brackets' sizes, spaces, LaTeX and Unicode synonyms."""
    text = unwrap(narrow(answer))
    text = _FRACTION.sub(_as_fraction, _POWER.sub(_as_power, text))
    text = _brace_roots(_ROOT.sub(r"\\sqrt{\1}", text))
    for old, new in _SYNONYMS:
        text = text.replace(old, new)
    text = _CONTROL_SPACE.sub(" ", _SIZED_BRACKET.sub("", text))
    return " ".join(_BARE_NAME.sub(_as_command, text).split())


def is_same_text(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Equal but for case, white space, a full stop at the end, and what stands around the whole."""
    one, other = (
        " ".join(unicodedata.normalize("NFC", unwrap(text)).casefold().split()) for text in (response, reference)
    )
    return one == other


def narrow(text: str) -> str:
    """Signs of full width as those of ASCII, and without marks that nobody sees."""
    return text.translate(_NARROWED).translate(_UNSEEN)


def unwrap(text: str) -> str:
    """Takes off a full stop, and what stands around the whole of a text, layer by layer."""
    text = text.strip()
    if text.endswith((".", "\N{IDEOGRAPHIC FULL STOP}")):
        text = text[:-1].rstrip()
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        is_wrapped = text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing)
        if is_wrapped and opening not in inner and is_balanced(inner):
            return unwrap(inner)
    return text


def is_balanced(text: str) -> bool:
    """No brace is closed before it was opened."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return True


def _brace_roots(text: str) -> str:
    r"""sqrt(x) as \sqrt{x}."""
    closing = []

    def turn(sign: re.Match) -> str:
        if sign[0] == ")":
            return closing.pop() if closing else ")"
        closing.append(")" if sign[0] == "(" else "}")
        return "(" if sign[0] == "(" else r"\sqrt{"

    return _PARENTHESIS.sub(turn, text)


def _as_power(raised: re.Match) -> str:
    return f"^{{{raised[0].translate(_RAISED)}}}"


def _as_fraction(sign: re.Match) -> str:
    over, under = unicodedata.normalize("NFKC", sign[0]).split("\N{FRACTION SLASH}")
    return rf"\frac{{{over}}}{{{under}}}"


def _as_command(name: re.Match) -> str:
    return rf"\{name[0]} "
