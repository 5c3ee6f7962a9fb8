"""Bodies of answers: generated references of every kind, ways to respell them, and near misses of them."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """A reference answer, its kind and choices, and the family it was made from."""

    answer: str
    kind: str
    family: str
    choices: tuple[str, ...] = ()


class Case(NamedTuple):
    """A response to grade beside a reference, and the name of the rule that made it."""

    response: str
    reference: Reference
    rule: str


WORDS = tuple(
    "Paris left blue triangle Monday water Evelyn parabola north oxygen seven rectangle winter copper mammal".split()
)
UNITS = ("cm", "m", "km", "kg", "g", "hours", "minutes", "liters", "km/h", "cm^2")


def make_references(n: int, rng: np.random.Generator) -> list[Reference]:
    """Return different references, the families in turns."""
    found: dict[Reference, None] = {}
    for family in itertools.islice(itertools.cycle(FAMILIES), 20 * n):
        kind, make = FAMILIES[family]
        made = make(lambda low, high: int(rng.integers(low, high + 1)))
        answer, choices = made if isinstance(made, tuple) else (made, ())
        found[Reference(answer, kind, family, choices)] = None
        if len(found) == n:
            break
    return list(found)


Draw = Callable[[int, int], int]


def _fraction(draw: Draw) -> tuple[int, int]:
    """Return a fraction in lowest terms, as numerator and denominator."""
    under = draw(2, 30)
    over = next(n for n in itertools.count(draw(1, 60)) if np.gcd(n, under) == 1)
    return over, under


def _polynomial(draw: Draw) -> str:
    middle, last = draw(2, 9), draw(1, 20)
    return f"{draw(2, 5)}x^2{'+-'[draw(0, 1)]}{middle}x{'+-'[draw(0, 1)]}{last}"


def _pick(draw: Draw, *options: str) -> str:
    return options[draw(0, len(options) - 1)]


def _choice(draw: Draw) -> tuple[str, tuple[str, ...]]:
    start = draw(0, len(WORDS) - 4)
    return "ABCD"[draw(0, 3)], WORDS[start : start + 4]


# The kind of each family of references, and a function that makes one from draws of integers (low, high).
FAMILIES: dict[str, tuple[str, Callable[[Draw], str | tuple[str, tuple[str, ...]]]]] = {
    "integer": ("number", lambda draw: f"{draw(2, 999)}"),
    "large integer": ("number", lambda draw: f"{draw(1000, 9_999_999)}"),
    "negative": ("number", lambda draw: f"-{draw(1, 500)}"),
    "decimal": ("number", lambda draw: f"{draw(1, 99)}.{draw(1, 99):02}"),
    "money": ("number", lambda draw: f"${draw(1, 2000)}"),
    "percent": ("number", lambda draw: f"{draw(1, 99)}%"),
    "quantity": ("number", lambda draw: f"{draw(2, 500)} {_pick(draw, *UNITS)}"),
    "plain fraction": ("number", lambda draw: "{}/{}".format(*_fraction(draw))),
    "latex integer": ("expression", lambda draw: f"{draw(2, 5000)}"),
    "latex fraction": ("expression", lambda draw: r"\frac{{{}}}{{{}}}".format(*_fraction(draw))),
    "negative fraction": ("expression", lambda draw: r"-\frac{{{}}}{{{}}}".format(*_fraction(draw))),
    "latex percent": ("expression", lambda draw: rf"{draw(1, 99)}\%"),
    "latex money": ("expression", lambda draw: rf"\${draw(2, 900)}"),
    "degrees": ("expression", lambda draw: rf"{draw(1, 359)}^\circ"),
    "latex quantity": ("expression", lambda draw: rf"{draw(2, 400)}\text{{ {_pick(draw, 'cm', 'm', 'kg', 'km/h')}}}"),
    "multiple of pi": ("expression", lambda draw: rf"{draw(2, 90)}\pi"),
    "angle": ("expression", lambda draw: rf"\frac{{\pi}}{{{draw(2, 12)}}}"),
    "surd": ("expression", lambda draw: rf"{draw(2, 20)}\sqrt{{{_pick(draw, '2', '3', '5', '6', '7')}}}"),
    "surd fraction": ("expression", lambda draw: rf"\frac{{\sqrt{{{_pick(draw, '2', '3', '5')}}}}}{{{draw(2, 9)}}}"),
    "surd sum": ("expression", lambda draw: rf"{draw(2, 9)}+\sqrt{{{_pick(draw, '2', '3', '5')}}}"),
    "polynomial": ("expression", _polynomial),
    "product": ("expression", lambda draw: f"(x+{draw(1, 9)})(x-{draw(1, 9)})"),
    "complex": ("expression", lambda draw: f"{draw(1, 9)}+{draw(2, 9)}i"),
    "pair": ("expression", lambda draw: f"({draw(1, 20)},{draw(-20, -1)})"),
    "triple": ("expression", lambda draw: f"({draw(1, 9)},{draw(10, 19)},{draw(20, 29)})"),
    "half-open interval": ("expression", lambda draw: f"[{draw(-9, 0)},{draw(1, 20)})"),
    "union": ("expression", lambda draw: rf"(-\infty,{draw(-9, 0)})\cup({draw(1, 9)},\infty)"),
    "inequality": ("expression", lambda draw: rf"x \{_pick(draw, 'ge', 'le')} {draw(-20, 20)}"),
    "list": ("expression", lambda draw: f"{draw(1, 9)},{draw(10, 40)}"),
    "assignment": ("expression", lambda draw: f"x={draw(2, 60)}"),
    "line": ("expression", lambda draw: f"y={draw(2, 9)}x+{draw(1, 9)}"),
    "column": ("expression", lambda draw: rf"\begin{{pmatrix}}{draw(1, 9)}\\{draw(-9, -1)}\end{{pmatrix}}"),
    "base numeral": ("expression", lambda draw: f"{np.base_repr(draw(100, 9999), 7)}_7"),
    "power": ("expression", lambda draw: f"{draw(2, 9)}^{{{draw(11, 60)}}}"),
    "factorial": ("expression", lambda draw: f"{draw(20, 60)}!"),
    "logarithm": ("expression", lambda draw: rf"\log_{draw(2, 9)} {draw(11, 19)}"),
    "plus-minus": ("expression", lambda draw: rf"\pm {draw(2, 40)}"),
    "clock": ("expression", lambda draw: f"{draw(1, 9)}:{draw(10, 59)} PM"),
    "ratio": ("expression", lambda draw: f"{draw(1, 4)}:{_pick(draw, '5', '7', '11')}"),
    "equation": ("expression", lambda draw: f"x^2+{draw(1, 99)}=0"),
    "law": ("expression", lambda draw: f"I={draw(2, 90)}t"),
    "tiny": ("expression", lambda draw: f"1/2^{{{draw(40, 99)}}}"),
    "labels": ("expression", lambda draw: _pick(draw, "HTH", "THT", "ABD", "XYZ", "room 12", "gate 7")),
    "name": ("expression", lambda draw: rf"\text{{{_pick(draw, *WORDS)}}}"),
    "choice": ("choice", _choice),
    "nearest choice": ("nearest_choice", _choice),
    "yes or no": ("yes_no", lambda draw: _pick(draw, "Yes", "No", "True", "False")),
    "text": ("text", lambda draw: f"{_pick(draw, *WORDS)} {_pick(draw, *WORDS)}"),
    "set": ("set", lambda draw: rf"\{{{draw(1, 9)}, {draw(10, 30)}\}}"),
    "letters": ("set", lambda draw: _pick(draw, "A, B", "A, C", "B, D", "A, B, D", "A, C, D")),
    "chart number": ("relaxed", lambda draw: f"{draw(3, 900)}"),
    "counted": ("integer", lambda draw: f"{draw(1, 90)}"),
    "measured": ("rounded", lambda draw: f"{draw(1, 90)}.{draw(1, 9)}"),
}

MATH = ("number", "expression", "set")
_LATEX = r"\frac"


class Rule(NamedTuple):
    """A rewriting of references.

    kinds: of answers to which it applies.
    rewrite: returns the answer rewritten; the same answer where the rule does not apply.
    without: families to which it does not apply.
    """

    kinds: tuple[str, ...]
    rewrite: Callable[[str], str]
    without: tuple[str, ...] = ()


def _replace(*pairs: tuple[str, str], kinds: tuple[str, ...] = MATH, without: tuple[str, ...] = ()) -> Rule:
    """Return the rule that replaces patterns, one after the other."""

    def rewrite(answer: str) -> str:
        for pattern, replacement in pairs:
            answer = re.sub(pattern, replacement, answer)
        return answer

    return Rule(kinds, rewrite, without)


def _around(before: str, after: str, kinds: tuple[str, ...] = MATH, without: tuple[str, ...] = ()) -> Rule:
    """Return the rule that writes something around an answer."""
    return Rule(kinds, lambda answer: f"{before}{answer}{after}", without)


def _grouped(separator: str) -> Callable[[str], str]:
    return lambda answer: re.sub(
        r"(?<![0-9.])[0-9]{4,}(?![0-9])", lambda digits: f"{int(digits[0]):,}".replace(",", separator), answer
    )


def _fullwidth(answer: str) -> str:
    return answer.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})


_NUMERALS = ("base numeral", "clock", "ratio")
_LISTS = ("list", "half-open interval", "pair", "triple", "union")
_WORDY = ("name", "clock")
# A dollar sign of money is no delimiter of LaTeX.
_MONEY = ("money",)

# Ways to respell an answer; its value stays the same.
RESPELLINGS: dict[str, Rule] = {
    # Wrappers.
    "$…$": _around("$", "$", without=_MONEY),
    "$$…$$": _around("$$", "$$", without=_MONEY),
    r"\(…\)": _around(r"\(", r"\)", without=_MONEY),
    r"\[…\]": _around(r"\[ ", r" \]", without=_MONEY),
    r"\boxed": _around(r"\boxed{", "}", without=_MONEY),
    r"$\boxed$": _around(r"$\boxed{", "}$", without=_MONEY),
    "**…**": _around("**", "**", kinds=(*MATH, "choice", "yes_no", "text")),
    r"\text": _around(r"\text{", "}", kinds=("choice", "yes_no", "text")),
    r"\textbf": _around(r"\textbf{", "}", kinds=("choice", "yes_no", "text")),
    r"\mathbf": _around(r"\mathbf{", "}", kinds=("choice",)),
    "backquotes": _around("`", "`", kinds=("choice", "text", "number"), without=_MONEY),
    "quotation marks": _around('"', '"', kinds=("choice", "text", "yes_no")),
    "full stop": _around("", ".", kinds=(*MATH, "choice", "yes_no", "text"), without=("clock",)),
    "Chinese full stop": _around("", "。", kinds=(*MATH, "choice", "yes_no", "text"), without=("clock",)),
    "blanks": _around("  ", " \n", kinds=(*MATH, "choice", "nearest_choice", "yes_no", "text", "relaxed")),
    # Numbers.
    "thousands ,": Rule(MATH, _grouped(",")),
    "thousands {,}": Rule(("expression",), _grouped("{,}")),
    "thousands \\,": Rule(("expression",), _grouped(r"\,")),
    "thousands ,\\!": Rule(("expression",), _grouped(r",\!")),
    "thin spaces": Rule(("number",), _grouped("\u202f")),
    "point zero": _replace((r"\A([0-9]+)\Z", r"\1.0"), kinds=("number", "expression", "relaxed", "integer")),
    "trailing zero": _replace((r"\A([0-9]+\.[0-9]+)\Z", r"\g<1>0"), kinds=("number", "rounded")),
    "leading zero": _replace((r"\A([0-9]+)\Z", r"0\1"), kinds=("number",)),
    "plus sign": _replace((r"\A([0-9]+)\Z", r"+\1"), kinds=("number",)),
    "minus sign": _replace((r"-(?=[0-9])", "\N{MINUS SIGN}")),
    "blank after minus": _replace((r"\A-(?=[0-9])", "- "), kinds=("number",)),
    "full-width digits": Rule(("number", "expression"), _fullwidth, without=("base numeral",)),
    "full-width brackets": _replace((r"\A\((.*),(.*)\)\Z", r"（\1，\2）"), without=("triple", "union", "product")),
    # Fractions.
    r"\dfrac": _replace((r"\\frac", r"\\dfrac")),
    r"\tfrac": _replace((r"\\frac", r"\\tfrac")),
    r"\cfrac": _replace((r"\\frac", r"\\cfrac")),
    "a/b": _replace((r"\\frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2")),
    r"a/b to \frac": _replace((r"\A([0-9]+)/([0-9]+)\Z", r"\\frac{\1}{\2}")),
    "(a)/(b)": _replace((r"\\frac\{(.*)\}\{([0-9]+)\}", r"(\1)/(\2)")),
    r"\frac ab": _replace((r"\\frac\{([0-9])\}\{([0-9])\}", r"\\frac\1\2")),
    "minus above": _replace((r"-\\frac\{", r"\\frac{-")),
    r"\pi/n": _replace((r"\\frac\{\\pi\}\{([0-9]+)\}", r"\\pi/\1")),
    r"1/n \pi": _replace((r"\\frac\{\\pi\}\{([0-9]+)\}", r"\\frac{1}{\1}\\pi")),
    r"\frac{3}{2}\sqrt": _replace((r"\\frac\{(\\sqrt\{[0-9]\})\}\{([0-9]+)\}", r"\\frac{1}{\2}\1")),
    # Roots, pi and other signs.
    r"\sqrt3": _replace((r"\\sqrt\{([0-9])\}", r"\\sqrt\1")),
    "sqrt(3)": _replace((r"\\sqrt\{([0-9])\}", r"sqrt(\1)")),
    "√3": _replace((r"\\sqrt\{([0-9])\}", r"√\1")),
    "3^{1/2}": _replace((r"(?<![0-9])\\sqrt\{([0-9])\}", r"\1^{1/2}")),
    "π": _replace((r"\\pi", "π")),
    "pi": _replace((r"([0-9])\\pi", r"\1*pi")),
    r"\cdot": _replace((r"([0-9])(\\sqrt|\\pi)", r"\1\\cdot\2")),
    r"\times": _replace((r"([0-9])(\\sqrt|\\pi)", r"\1 \\times \2")),
    "factor *": _replace((r"([0-9])(?=\\sqrt|\\pi|[xi]\b)", r"\1*")),
    "factor after": _replace((r"\A([0-9]+)(\\sqrt\{[0-9]\}|\\pi)\Z", r"\2\\cdot \1")),
    # Units.
    "percent word": _replace((r"\\?%", " percent")),
    "bare percent": _replace((r"\\%", "%")),
    "escaped percent": _replace((r"(?<!\\)%", r"\\%")),
    "°": _replace((r"\^\\circ", "°")),
    r"^{\circ}": _replace((r"\^\\circ", r"^{\\circ}")),
    "degrees": _replace((r"\^\\circ", " degrees")),
    "USD": _replace((r"\A\\?\$([0-9]+)\Z", r"\1 USD")),
    "dollars": _replace((r"\A\\?\$([0-9]+)\Z", r"\1 dollars")),
    "bare unit": _replace((r"\\text\{ ?([^{}]*)\}", r" \1"), without=_WORDY),
    r"\mathrm unit": _replace((r"\\text\{ ([^{}]*)\}", r"\\,\\mathrm{\1}"), without=_WORDY),
    r"unit in \text": _replace((r"(?<=[0-9]) ([a-z/]+)\Z", r"\\text{ \1}"), kinds=("number",)),
    "long unit": _replace(
        (r"\bkm/h\b", "kilometers per hour"), (r"\bcm\b", "centimeters"), (r"\bkg\b", "kilograms"), without=_WORDY
    ),
    "Chinese unit": _replace((r"(?:\\text\{ cm\}| cm)\Z", "厘米"), (r"(?:\\text\{ kg\}| kg)\Z", "千克")),
    # Formulas.
    "blanks beside signs": _replace((r"(?<=[0-9a-z})])([-+=])(?=[0-9a-z(\\])", r" \1 ")),
    "2 \\cdot x": _replace((r"([0-9])x", r"\1 \\cdot x"), kinds=("expression",)),
    "x^{2}": _replace((r"\^2", "^{2}"), kinds=("expression",)),
    "x²": _replace((r"\^2", "²"), kinds=("expression",)),
    "x**2": _replace((r"\^2", "**2"), kinds=("expression",)),
    "factors swapped": _replace((r"\A(\([^()]*\))(\([^()]*\))\Z", r"\2\1"), kinds=("expression",)),
    "summands swapped": _replace((r"\A([0-9]+)\+(\\sqrt\{[0-9]\}|[0-9]i)\Z", r"\2+\1")),
    "i before": _replace((r"([0-9])i\Z", r"i\1")),
    "f(x) =": _replace((r"\Ay=", "f(x)="), kinds=("expression",)),
    "x = dropped": _replace((r"\Ax=", ""), kinds=("expression",)),
    "x = added": _replace((r"\A([0-9]+)\Z", r"x = \1"), kinds=("expression",)),
    "sides swapped": _replace((r"\Ax=([0-9]+)\Z", r"\1=x"), kinds=("expression",)),
    r"\log_{2}": _replace((r"_([0-9]) ", r"_{\1}"), kinds=("expression",)),
    r"\ln quotient": _replace((r"\\log_([0-9]) ([0-9]+)", r"\\frac{\\ln \2}{\\ln \1}"), kinds=("expression",)),
    "_{7}": _replace((r"_7\Z", "_{7}"), kinds=("expression",)),
    "base 7": _replace((r"_7\Z", r" \\text{ base } 7"), kinds=("expression",)),
    # Brackets, lists, intervals, matrices.
    "blank after comma": _replace((r",(?=\S)", ", "), without=("large integer",)),
    r"\left \right": _replace((r"\A([\[(])(.*)([\])])\Z", r"\\left\1\2\\right\3"), without=("union", "product")),
    "braces dropped": _replace((r"\A\\\{(.*)\\\}\Z", r"\1"), kinds=("set",)),
    "plain braces": _replace((r"\A\\\{(.*)\\\}\Z", r"{\1}"), kinds=("set",)),
    "and": _replace((r"\A([0-9]+),([0-9]+)\Z", r"\1 \\text{ and } \2"), kinds=("expression",)),
    "order": _replace((r"\A([0-9]+),([0-9]+)\Z", r"\2, \1"), kinds=("expression",)),
    "set order": _replace((r"\A\\\{([0-9]+), ([0-9]+)\\\}\Z", r"\2, \1"), kinds=("set",)),
    "x = a or x = b": _replace((r"\A\\\{([0-9]+), ([0-9]+)\\\}\Z", r"x = \1 or x = \2"), kinds=("set",)),
    "letters joined": _replace((r"\A([A-D]), ([A-D])\Z", r"\1\2"), kinds=("set",)),
    "letters and": _replace((r"\A([A-D]), ([A-D])\Z", r"\1 and \2"), kinds=("set",)),
    "(A)(C)": _replace((r"\A([A-D]), ([A-D])\Z", r"(\1)(\2)"), kinds=("set",)),
    "∪": _replace((r"\\cup", "∪"), kinds=("expression",)),
    r"\text{ or }": _replace((r"\\cup", r"\\text{ or }"), kinds=("expression",)),
    "∞": _replace((r"\\infty", "∞"), kinds=("expression",)),
    "≥": _replace((r"\\ge ", "≥ "), (r"\\le ", "≤ "), kinds=("expression",)),
    ">=": _replace((r"\\ge ", ">= "), (r"\\le ", "<= "), kinds=("expression",)),
    r"\geqslant": _replace((r"\\ge ", r"\\geqslant "), (r"\\le ", r"\\leqslant "), kinds=("expression",)),
    "inequality as interval": _replace(
        (r"x \\ge (-?[0-9]+)", r"[\1,\\infty)"), (r"x \\le (-?[0-9]+)", r"(-\\infty,\1]"), kinds=("expression",)
    ),
    "bmatrix": _replace((r"pmatrix", "bmatrix"), kinds=("expression",)),
    "column as vector": _replace(
        (r"\\begin\{pmatrix\}(.*)\\\\(.*)\\end\{pmatrix\}", r"\\langle \1, \2 \\rangle"), kinds=("expression",)
    ),
    "pm as list": _replace((r"\\pm ([0-9]+)", r"\1, -\1"), kinds=("expression",)),
    "±": _replace((r"\\pm ", "±"), kinds=("expression",)),
    "p.m.": _replace((r" PM", " p.m."), kinds=("expression",)),
    "ratio to": _replace((r"\A([0-9]+):([0-9]+)\Z", r"\1 to \2"), kinds=("expression",)),
    # Choices, yes or no, texts.
    "(B)": _replace((r"\A([A-D])\Z", r"(\1)"), kinds=("choice", "nearest_choice")),
    "B.": _replace((r"\A([A-D])\Z", r"\1."), kinds=("choice",)),
    "B) because": _replace((r"\A([A-D])\Z", r"\1) because it fits"), kinds=("choice",)),
    "option B": _replace((r"\A([A-D])\Z", r"Option \1"), kinds=("choice",)),
    "选项B": _replace((r"\A([A-D])\Z", r"选项\1"), kinds=("choice",)),
    r"\textbf{(B)}": _replace((r"\A([A-D])\Z", r"\\textbf{(\1)}"), kinds=("choice",)),
    "lower case": Rule(("choice", "yes_no", "text"), str.lower),
    "upper case": Rule(("yes_no", "text"), str.upper),
    "yes, because": _replace((r"\A(\w+)\Z", r"\1, because it is so"), kinds=("yes_no",)),
    "Chinese yes": _replace((r"\A(?:Yes|True)\Z", "是"), (r"\A(?:No|False)\Z", "否"), kinds=("yes_no",)),
    # Lead-ins.
    "the answer is": _around("The answer is ", "", kinds=("number", "expression"), without=_WORDY),
    "答案是": _around("答案是", "", kinds=("number", "expression"), without=_WORDY),
}


def _bump(digit: re.Match) -> str:
    return str((int(digit[0]) + 1) % 10 or 1)


# Near misses: small changes after which an answer is another one.
NEAR_MISSES: dict[str, Rule] = {
    "digit": Rule((*MATH, "integer"), lambda answer: re.sub(r"[0-9](?=[^0-9]*\Z)", _bump, answer)),
    "first digit": Rule(
        (*MATH, "relaxed", "integer", "rounded"),
        lambda answer: re.sub(r"\A([^0-9]*)([0-8])", lambda match: match[1] + str(int(match[2]) + 1), answer),
    ),
    "digit more": Rule(MATH, lambda answer: re.sub(r"([0-9])(?=[^0-9]*\Z)", r"\g<1>1", answer)),
    "sign": Rule(
        ("number", "expression"),
        lambda answer: answer[1:] if answer.startswith("-") else f"-{answer}",
        (
            "inequality",
            "assignment",
            "line",
            "name",
            "clock",
            "ratio",
            "plus-minus",
            "union",
            "column",
            "half-open interval",
            "money",
        ),
    ),
    "inner sign": _replace((r"(?<=[0-9a-z})])\+", "-"), kinds=("expression",)),
    "bracket": _replace(
        (r"\A\[", "("), (r"\A\((?=.*\)\Z)(?!.*\\cup)(?!x)", "["), kinds=("expression",), without=("half-open interval",)
    ),
    "closed for open": _replace(
        (r"\A\[(.*)\)\Z", r"[\1]"), (r"\A\(-\\infty,([0-9-]+)\)", r"(-\\infty,\1]"), kinds=("expression",)
    ),
    "swap": _replace((r"\A\(([0-9-]+),([0-9-]+)", r"(\2,\1"), kinds=("expression",)),
    "ratio swapped": _replace((r"\A([0-9]+):([0-9]+)\Z", r"\2:\1"), kinds=("expression",)),
    "fraction swapped": _replace(
        (r"\\frac\{([0-9]+)\}\{([0-9]+)\}", r"\\frac{\2}{\1}"), (r"\A([0-9]+)/([0-9]+)\Z", r"\2/\1")
    ),
    "base": _replace((r"_7\Z", "_8"), kinds=("expression",)),
    "base dropped": _replace((r"_7\Z", ""), kinds=("expression",)),
    "logarithm's base": Rule(("expression",), lambda answer: re.sub(r"(?<=log_)([0-9])", _bump, answer)),
    "unit": _replace(
        (r"\b(cm|m|km)\b", "kg"),
        (r"\b(g|hours|minutes|liters)\b", "cm"),
        (r"(?<=[0-9] )kg\b(?!/)", "pounds"),
        kinds=("number",),
    ),
    "latex unit": _replace(
        (r"\\text\{ (?:cm|m)\}", r"\\text{ km}"), (r"\\text\{ kg\}", r"\\text{ g}"), kinds=("expression",)
    ),
    "cents": _replace((r"\A\\?\$([0-9]+)\Z", r"\1 cents")),
    "root": _replace((r"\\sqrt\{2\}", r"\\sqrt{3}"), (r"\\sqrt\{5\}", r"\\sqrt{6}"), kinds=("expression",)),
    "root dropped": _replace((r"\\sqrt\{([0-9])\}", r"\1"), kinds=("expression",)),
    "cube root": _replace((r"\\sqrt\{", r"\\sqrt[3]{"), kinds=("expression",)),
    "exponent": _replace((r"\^2", "^3"), (r"\^\{1", "^{2"), (r"\^\{([3-6])", r"^{1\1"), kinds=("expression",)),
    "exponent dropped": _replace((r"\^(?:2|\{[0-9]+\})", ""), kinds=("expression",)),
    "pi dropped": _replace((r"([0-9])\\pi", r"\1"), kinds=("expression",)),
    "factorial dropped": _replace((r"!\Z", ""), kinds=("expression",)),
    "relation": _replace((r"\\ge ", "> "), (r"\\le ", "< "), kinds=("expression",)),
    "relation turned": _replace(
        (r"\\ge ", r"\\le_ "), (r"\\le ", r"\\ge "), (r"\\le_ ", r"\\le "), kinds=("expression",)
    ),
    "member dropped": _replace(
        (r",[^,]*\Z", ""), kinds=("expression",), without=("half-open interval", "union", "pair", "triple")
    ),
    "member more": _replace(
        (r"\A(-?[0-9]+,-?[0-9]+)\Z", r"\1,99"),
        (r"\A\\\{(.*)\\\}\Z", r"\\{\1, 99\\}"),
        (r"\A([A-D], [A-D])\Z", r"\1, E"),
        kinds=("expression", "set"),
    ),
    "half of ±": _replace((r"\\pm ", ""), kinds=("expression",)),
    "AM": _replace((r" PM", " AM"), kinds=("expression",)),
    "letters swapped": _replace(
        (r"\A([A-Z])([A-Z])", r"\2\1"), (r"\Aroom", "moor"), (r"\Agate", "Aget"), kinds=("expression",)
    ),
    "false relation": _replace((r"\Ax\^2\+[0-9]+=0\Z", "0=1"), kinds=("expression",)),
    "true relation": _replace((r"\Ax\^2\+[0-9]+=0\Z", "1=1"), kinds=("expression",)),
    "tenfold": Rule(
        ("number", "expression"), lambda answer: re.sub(r"\A(-?\\?\$?[0-9]+)(?=\Z|\\?%|\^\\circ)", r"\g<1>0", answer)
    ),
    "other letter": Rule(("choice", "nearest_choice"), lambda answer: "ABCD"[("ABCD".index(answer) + 1) % 4]),
    "other polarity": Rule(
        ("yes_no",), lambda answer: {"Yes": "No", "True": "False", "No": "Yes", "False": "True"}[answer]
    ),
    "other word": _replace((r"\A(\w+)", r"\1s"), kinds=("text",)),
    "letters of the word": Rule(
        ("expression",), lambda answer: re.sub(r"\\text\{(\w+)(\w)\}", r"\\text{\2\1}", answer)
    ),
}


def respell(references: list[Reference]) -> Iterator[Case]:
    """Yield each reference in every way in which it can be respelled."""
    return _rewrite(references, RESPELLINGS)


def nearly_miss(references: list[Reference]) -> Iterator[Case]:
    """Yield every near miss of each reference."""
    return _rewrite(references, NEAR_MISSES)


def _rewrite(references: list[Reference], rules: dict[str, Rule]) -> Iterator[Case]:
    for reference in references:
        for name, rule in rules.items():
            if reference.kind in rule.kinds and reference.family not in rule.without:
                response = rule.rewrite(reference.answer)
                if response != reference.answer:
                    yield Case(response, reference, name)


# Answers to no question, and references that none of them equals.
UNIVERSAL = (
    *"0 1 2 10 x y n i e A B C D a True yes no none all True/False".split(),
    *(
        "x=x",
        "0=0",
        "1=1",
        "x=1",
        "y",
        "f(x)",
        "any",
        "all real numbers",
        "no solution",
        "undefined",
        "the answer",
        "answer",
    ),
    *(
        r"\infty",
        r"\emptyset",
        r"\{\}",
        "{}",
        "()",
        "[]",
        r"\mathbb{R}",
        r"(-\infty,\infty)",
        r"\pm 1",
        r"\text{}",
        r"\boxed{}",
        "$$",
    ),
    *(
        "A, B, C, D",
        "ABCD",
        "1, 2, 3, 4, 5, 6, 7, 8, 9",
        "yes and no",
        "0/0",
        "nan",
        "inf",
        "1e999",
        "?",
        "...",
        "-",
        "=",
        "%",
    ),
)
