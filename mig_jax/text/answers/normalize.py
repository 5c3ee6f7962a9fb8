"""Normalization of answers that differ only in notation."""

import functools
import re
import unicodedata
from collections.abc import Sequence

# Commands of LaTeX that set text or letters in a font: the one list of the wrappers that mean nothing.
FONT_COMMANDS = (
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "textsc", "textup", "textmd", "textnormal", "emph",
    "mbox", "hbox", "mathrm", "mathbf", "mathit", "mathsf", "mathtt", "mathnormal", "operatorname", "bm", "boldsymbol",
    "underline", "fbox", "boxed",
)  # fmt: skip
# Those that hold text, rather than a letter of a formula.
TEXT_COMMAND = r"\\(?:text(?:bf|it|rm|sf|tt|sc|up|md|normal)?|emph|[mh]box|math(?:rm|normal)|operatorname)"

# Pairs that may enclose a whole answer.
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("***", "***"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("```", "```"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"),
    ("\N{LEFT SINGLE QUOTATION MARK}", "\N{RIGHT SINGLE QUOTATION MARK}"),
    ("\N{LEFT CORNER BRACKET}", "\N{RIGHT CORNER BRACKET}"),
    *((rf"\{command}{{", "}") for command in FONT_COMMANDS),
)
_FINAL_MARKS = ".;,\N{IDEOGRAPHIC FULL STOP}\N{IDEOGRAPHIC COMMA}"

# What announces an answer, before it; in Chinese, too.
_LEAD_IN = re.compile(
    rf"(?:(?:{TEXT_COMMAND} ?\{{)? ?(?i:(?:so|thus|hence|therefore|then),? +)?"
    r"(?i:(?:(?:the|my|our) )?(?:final |correct |right )?(?:answer|result|solution|value) ?(?:is|are|equals|:|=)[: ]*"
    r"|it is |ans(?:wer)? ?[:=] ?)\}? ?"
    r"|(?:所以|因此|故|综上)?[,:]?"
    r"(?:(?:最终|正确)?答案?(?:应该|应)?[是为:]+|答(?=[:案]):?|结果[是为:]+)[: ]*)"
)

# Notations with the same meaning: the left one is replaced by the right one.
_REPLACEMENTS = (
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\cfrac", r"\frac"),
    (r"\dbinom", r"\binom"),
    (r"\tbinom", r"\binom"),
    (r"\displaystyle", " "),
    (r"\!", ""),
    (r"\,", " "),
    (r"\;", " "),
    (r"\:", " "),
    (r"\quad", " "),
    (r"\qquad", " "),
    ("~", " "),
    ("{,}", ","),
    (r"\$", " "),
    ("$", " "),
    (r"\%", "%"),
    (r"\#", "#"),
    (r"\lbrace", r"\{"),
    (r"\rbrace", r"\}"),
    (r"\lvert", "|"),
    (r"\rvert", "|"),
    (r"\vert", "|"),
    (r"\colon", ":"),
    (r"\infin ", r"\infty "),
    ("**", "^"),
    (r"\mathrm{i}", "i"),
    (r"\mathrm{e}", "e"),
    (r"\mathrm{d}", "d"),
    (r"\imath", "i"),
    ("<=", r"\leq "),
    (">=", r"\geq "),
    ("!=", r"\neq "),
    ("\N{MINUS SIGN}", "-"),
    ("\N{EN DASH}", "-"),
    ("\N{SUPERSCRIPT TWO}", "^{2}"),
    ("\N{DEGREE SIGN}", r"^\circ"),
    ("\N{DEGREE CELSIUS}", r"^\circ C"),
    ("\N{DEGREE FAHRENHEIT}", r"^\circ F"),
    ("\N{GREEK SMALL LETTER PI}", r"\pi "),
    ("\N{MULTIPLICATION SIGN}", r"\times "),
    ("\N{DIVISION SIGN}", r"\div "),
    ("\N{MIDDLE DOT}", r"\cdot "),
    ("\N{DOT OPERATOR}", r"\cdot "),
    ("\N{ASTERISK OPERATOR}", "*"),
    ("\N{INFINITY}", r"\infty "),
    ("\N{ALMOST EQUAL TO}", r"\approx "),
    ("\N{APPROXIMATELY EQUAL TO}", r"\approx "),
    ("\N{NOT EQUAL TO}", r"\neq "),
    ("\N{LESS-THAN OR EQUAL TO}", r"\leq "),
    ("\N{GREATER-THAN OR EQUAL TO}", r"\geq "),
    ("\N{LESS-THAN OR SLANTED EQUAL TO}", r"\leq "),
    ("\N{GREATER-THAN OR SLANTED EQUAL TO}", r"\geq "),
    ("\N{LESS-THAN OVER EQUAL TO}", r"\leq "),
    ("\N{GREATER-THAN OVER EQUAL TO}", r"\geq "),
    ("\N{PLUS-MINUS SIGN}", r"\pm "),
    ("\N{MINUS-OR-PLUS SIGN}", r"\mp "),
    ("\N{EMPTY SET}", r"\emptyset "),
    (r"\varnothing", r"\emptyset"),
    ("\N{UNION}", r"\cup "),
    ("\N{INTERSECTION}", r"\cap "),
    ("\N{ELEMENT OF}", r"\in "),
    ("\N{DOUBLE-STRUCK CAPITAL R}", r"\mathbb{R}"),
    ("\N{MATHEMATICAL LEFT ANGLE BRACKET}", r"\langle "),
    ("\N{MATHEMATICAL RIGHT ANGLE BRACKET}", r"\rangle "),
    ("\N{LEFT-POINTING ANGLE BRACKET}", r"\langle "),
    ("\N{RIGHT-POINTING ANGLE BRACKET}", r"\rangle "),
    ("\N{LEFT FLOOR}", r"\lfloor "),
    ("\N{RIGHT FLOOR}", r"\rfloor "),
    ("\N{LEFT CEILING}", r"\lceil "),
    ("\N{RIGHT CEILING}", r"\rceil "),
    ("\N{ANGLE}", r"\angle "),
    ("\N{WHITE UP-POINTING TRIANGLE}", r"\triangle "),
    ("\N{IDENTICAL TO}", r"\equiv "),
    ("\N{FRACTION SLASH}", "/"),
    ("\N{DIVISION SLASH}", "/"),
    ("\N{RATIO}", ":"),
    ("\N{IDEOGRAPHIC COMMA}", ","),
    ("\N{PRIME}", "'"),
)  # fmt: skip
# Commands that have several names; a longer name that begins alike is another command.
_RENAMED_COMMANDS = {
    "le": "leq", "ge": "geq", "ne": "neq", "leqslant": "leq", "geqslant": "geq", "leqq": "leq", "geqq": "geq",
    "lt": "<", "gt": ">", "land": r"\text{ and }", "lor": r"\text{ or }", "to": "rightarrow", "tg": "tan", "ctg": "cot",
    "varphi": "phi", "varepsilon": "epsilon",
}  # fmt: skip
_RENAMED = re.compile(rf"\\({'|'.join(_RENAMED_COMMANDS)})(?![A-Za-z])")
_SIZED_BRACKET = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\.?")
_CONTROL_SPACE = re.compile(r"(?<!\\)\\ ")
# A command with two backslashes, as text that was escaped twice has it; in a matrix they would end the row.
_DOUBLE_BACKSLASH = re.compile(
    r"\\\\(?=(?:[dt]?frac|boxed|text(?:bf|rm)?|mathrm|sqrt|leq?|geq?|neq?|times|cdot|pi|infty|cup|pm|left|right|begin|end)"
    r"(?![A-Za-z]))"
)
# Function names without their backslash, if an argument follows, and pi.
_BARE_COMMAND = re.compile(
    r"(?<![A-Za-z\\])(?:pi(?![A-Za-z])|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp)"
    r"(?=(?<=pi)|[ ^_]?[0-9({\\]| [a-z](?![a-z]))"
)
_BARE_INFINITY = re.compile(r"(?<![A-Za-z\\])(?:infinity|infty|inf|oo)(?![A-Za-z])")
_ROOT = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z\\])sqrt) ?([0-9]+|[A-Za-z](?![A-Za-z]))")
_ROOT_OR_PARENTHESIS = re.compile(r"(?:\N{SQUARE ROOT}|(?<![A-Za-z])\\?sqrt) ?\(|[()]")
_SUPERSCRIPT = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹ⁿ]+")
_SUBSCRIPT = re.compile(r"[₀-₉ₐₑₒₓₙ]+")
_VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")
_GREEK_LETTER = re.compile("[α-ωΓΔΘΛΞΠΣΥΦΨΩϕϑ]")
# A comma between groups of digits with a blank after it, as 11,\! 111 has it.
_SPACED_THOUSANDS = re.compile(r"(?<=[0-9]),(?:\\[!,;:]|\\ |[\u2009\u200a\u202f])\s*(?=[0-9]{3}(?![0-9]))")
# The digits that a decimal repeats, below dots on the first and the last one.
_REPEATED = re.compile(r"(?<=[0-9.])\\dot ?\{?([0-9])\}?(?:([0-9]*)\\dot ?\{?([0-9])\}?)?")
# What follows a congruence: \pmod{3}, \pmod 3, (mod 3), \bmod 3.
_MODULUS = re.compile(
    rf"(?:\(? ?(?:\\[bp]?mod(?![A-Za-z])|mod(?![A-Za-z])|{TEXT_COMMAND} ?\{{ ?mod ?\}})) ?\{{?(\w+)\}}?"
    r" ?\)?(?=[ $.]*\Z)"
)
_THIN_SPACE = re.compile(r"(?<=[0-9])[\u2009\u200a\u202f\u00a0](?=[0-9]{3}(?![0-9]))")

# Full-width characters, as typed in Chinese text; zero-width characters, direction marks included.
FULLWIDTH_TO_ASCII = dict(zip(range(0xFF01, 0xFF5F), map(chr, range(0x21, 0x7F)), strict=True)) | {
    0xFFE0: "\N{CENT SIGN}", 0xFFE1: "\N{POUND SIGN}", 0xFFE5: "\N{YEN SIGN}", 0xFFE6: "\N{WON SIGN}",
}  # fmt: skip
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


@functools.lru_cache(maxsize=4096)
def normalize(answer: str) -> str:
    r"""Return an answer in one notation, without wrappers, bracket sizes and extra spaces.

    Synonyms in LaTeX and Unicode become one, such as \tfrac and \frac, or × and \times.
    """
    text = strip_wrappers(clean_characters(answer))
    text = _THIN_SPACE.sub(" ", _SPACED_THOUSANDS.sub(",", text))
    if r"\begin" not in text:
        text = _DOUBLE_BACKSLASH.sub(r"\\", text)
    text = _VULGAR_FRACTION.sub(_vulgar_fraction_to_latex, _SUPERSCRIPT.sub(_superscript_to_latex, text))
    text = _SUBSCRIPT.sub(lambda match: f"_{{{unicodedata.normalize('NFKC', match[0])}}}", text)
    text = _REPEATED.sub(lambda match: rf"\overline{{{''.join(filter(None, match.groups()))}}}", text)
    text = _roots_to_latex(_ROOT.sub(r"\\sqrt{\1}", text))
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    text = _RENAMED.sub(_rename_command, _GREEK_LETTER.sub(_greek_to_latex, text))
    text = _CONTROL_SPACE.sub(" ", _SIZED_BRACKET.sub("", text))
    text = _BARE_INFINITY.sub(r"\\infty", text)
    if r"\equiv" in text:
        text = _MODULUS.sub(r" \\pmod{\1}", text)
    return " ".join(_BARE_COMMAND.sub(_name_to_command, text).split()).removesuffix("\\").rstrip()


def is_same_text(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether two texts are equal, ignoring case, whitespace, a final full stop and enclosing wrappers."""
    return _text_key(response) == _text_key(reference)


def clean_characters(text: str) -> str:
    """Replace full-width characters with ASCII and delete zero-width ones."""
    return text.translate(FULLWIDTH_TO_ASCII).translate(_INVISIBLE)


def strip_wrappers(text: str) -> str:
    r"""Strip a final mark and the wrappers around the whole text ($…$, **…**, "…", \boxed{…}), layer by layer."""
    text = text.strip()
    if text.endswith(tuple(_FINAL_MARKS)) and not text.endswith(("..", r"\;", r"\,", r"\.")):
        text = text[:-1].rstrip()
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        is_wrapped = text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing)
        if is_wrapped and opening not in inner and is_balanced(inner):
            return strip_wrappers(inner)
    return text


@functools.lru_cache(maxsize=4096)
def strip_lead_in(text: str) -> str:
    """Strip what announces an answer: "The answer is", "Answer:", and such."""
    text = strip_wrappers(clean_characters(text))
    match = _LEAD_IN.match(text)
    return strip_wrappers(text[match.end() :]) if match and match.end() < len(text) else text


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
    return f"^{{{unicodedata.normalize('NFKC', match[0]).replace(chr(0x2212), '-')}}}"


def _vulgar_fraction_to_latex(match: re.Match) -> str:
    r"""Rewrite ½ as \frac{1}{2}."""
    over, under = unicodedata.normalize("NFKC", match[0]).split("\N{FRACTION SLASH}")
    return rf"\frac{{{over}}}{{{under}}}"


def _greek_to_latex(match: re.Match) -> str:
    r"""Rewrite α as \alpha."""
    name = unicodedata.name(unicodedata.normalize("NFKC", match[0])).split()
    letter = name[-1].lower().replace("lamda", "lambda")
    return rf"\{letter if name[1] == 'SMALL' else letter.capitalize()} "


def _rename_command(match: re.Match) -> str:
    name = _RENAMED_COMMANDS[match[1]]
    return name if name[0] in "<>\\" else rf"\{name} "


def _name_to_command(match: re.Match) -> str:
    r"""Rewrite sin as \sin."""
    return rf"\{match[0]} "
