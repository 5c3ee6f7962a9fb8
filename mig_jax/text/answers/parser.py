r"""A parser of formulas in LaTeX or plain text that can be evaluated.

`parse_formula` reads one value: numbers, names, + − · / ^ !, roots, fractions, binomials, logarithms and the other
elementary functions. Integrals, sums, limits and other commands of `_ALGEBRA` raise `Unreadable`; anything else raises
`NotAFormula`.
"""

import functools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from mig_jax.text.answers.arithmetic import (
    Point,
    absolute,
    add,
    binomial,
    call_function,
    call_unknown_function,
    divide,
    factorial,
    logarithm,
    multiply,
    power,
    root,
    round_to_integer,
    subtract,
)
from mig_jax.text.answers.tokens import ACCENTS, GREEK, NotAFormula, Unreadable, split_tokens

# Longest formula that is read.
MAX_CHARACTERS = 600

_FUNCTIONS = {
    **{name: name for name in "sin cos tan cot sec csc sinh cosh tanh coth exp ln".split()},
    **{f"arc{name}": f"a{name}" for name in "sin cos tan cot sec csc".split()},
    "log": "log10", "lg": "log10",
}  # fmt: skip
# What only algebra can evaluate.
_ALGEBRA = re.compile(
    r"\\(?:i{1,3}nt|oint|sum|prod|lim|begin|det|partial|gcd|lcm|max|min|b?mod|Re|Im|arg|nabla)(?![a-z])"
    r"|\\frac ?\{ ?d"
)
_TIMES, _OVER = {"*", r"\cdot", r"\times", r"\ast"}, {"/", r"\div", ":"}
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\{": r"\}"}
_NO_FACTORS = {*_TIMES, *_OVER, r"\rfloor", r"\rceil", r"\}", r"\%", r"\circ", r"\choose"}
Node = Callable[[Point], Any]


class Formula(NamedTuple):
    """A formula that can be evaluated.

    names: its variables and unknown functions, sorted.
    evaluate: returns the value at a point, which has the value of each name.
    is_complex: whether the formula contains the imaginary unit.
    """

    names: tuple[str, ...]
    evaluate: Node
    is_complex: bool


@functools.lru_cache(maxsize=4096)
def parse_formula(text: str) -> Formula:
    """Return the formula that a normalized text is.

    Raises:
      Unreadable: it takes algebra; `NotAFormula` if it is no formula at all.
    """
    if _ALGEBRA.search(text):
        raise Unreadable(text)
    if len(text) > MAX_CHARACTERS:
        raise NotAFormula(text)
    parser = _Parser(text)
    try:
        node = parser.parse()
    except (RecursionError, LookupError) as error:
        raise NotAFormula(text) from error
    return Formula(tuple(sorted(parser.names)), node, parser.is_complex)


class _Parser:
    """A recursive-descent parser of one formula."""

    def __init__(self, text: str):
        self.text = text
        self.names: set[str] = set()
        self.is_complex = False
        self.tokens = split_tokens(text)
        self.position = 0
        self.bars = 0

    def parse(self) -> Node:
        node = self._sum()
        if self.position < len(self.tokens):
            raise NotAFormula(self.text)
        return node

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise NotAFormula(self.text)
        self.position += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise NotAFormula(self.text)

    def _sum(self) -> Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            operation = add if self._next() == "+" else subtract
            node = _apply(operation, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while True:
            token = self._peek()
            if token in _TIMES:
                self._next()
                node = _apply(multiply, node, self._signed())
            elif token in _OVER:
                self._next()
                node = _apply(divide, node, self._signed())
            elif self._starts_factor(token):
                if _is_digits(token) and _is_digits(self.tokens[self.position - 1]):
                    raise NotAFormula(self.text)  # "2 7" is two numbers
                node = _apply(multiply, node, self._factor())
            else:
                return node

    def _signed(self) -> Node:
        if self._peek() in ("+", "-"):
            return self._signed() if self._next() == "+" else _apply(subtract, _constant(0), self._signed())
        return self._factor()

    def _starts_factor(self, token: str) -> bool:
        if token == "|":
            return not self.bars
        return bool(token) and (
            token[0].isalnum()
            or token[0] == "."
            or token in ("(", "[", "{")
            or token[0] == "\\" and token not in _NO_FACTORS
        )  # fmt: skip

    def _factor(self) -> Node:
        start = self.position
        node = self._atom()
        is_mixed = (
            self.tokens[start].isdigit()
            and self.position == start + 1
            and self._peek() == r"\frac"
            and re.match(r"\\frac ?(?:\{[0-9]+\}|[0-9]) ?(?:\{[0-9]+\}|[0-9])(?! ?[!^])", self._rest())
        )
        if is_mixed:
            node = _apply(add, node, self._atom())
        return self._with_suffixes(node)

    def _rest(self) -> str:
        return "".join(self.tokens[self.position : self.position + 9])

    def _with_suffixes(self, node: Node) -> Node:
        while True:
            token = self._peek()
            if token == "!":
                self._next()
                if self._peek() == "!":
                    raise NotAFormula(self.text)
                node = _apply(factorial, node)
            elif token in ("%", r"\%"):
                self._next()
                node = _apply(divide, node, _constant(100))
            elif token == "^":
                self._next()
                if self._is_degree():
                    node = _apply(multiply, node, lambda point: point.mp.pi / 180)
                else:
                    node = _apply(power, node, self._argument(whole_number=True))
            else:
                return node

    def _is_degree(self) -> bool:
        """Return whether a degree sign follows, which is then read."""
        for sign in ((r"\circ",), ("{", r"\circ", "}")):
            if tuple(self.tokens[self.position : self.position + len(sign)]) == sign:
                self.position += len(sign)
                return True
        return False

    def _argument(self, *, whole_number: bool = False) -> Node:
        r"""Read {…}, or one token: the 1 of \frac12, but all of the 10 of 2^10."""
        token = self._peek()
        if token == "{":
            return self._group()
        if whole_number and token in ("-", "+"):
            self._next()
            node = self._argument(whole_number=True)
            return _apply(subtract, _constant(0), node) if token == "-" else node
        if _is_digits(token) and not whole_number and len(token) > 1:
            if not token.isdigit():
                raise NotAFormula(self.text)
            self.tokens[self.position] = token[1:]
            return _constant(Fraction(token[0]))
        return self._atom()

    def _group(self) -> Node:
        """Read a formula in brackets."""
        opening = self._next()
        bars, self.bars = self.bars, int(opening == "|")
        node = self._sum()
        self.bars = bars
        self._expect(_CLOSING[opening])
        return node

    def _atom(self) -> Node:
        token = self._peek()
        if token in ("(", "[", "{"):
            return self._braces() if token == "{" else self._group()
        if token == "|":
            return _apply(absolute, self._group())
        if token in (r"\lfloor", r"\lceil"):
            return _apply(functools.partial(round_to_integer, up=token == r"\lceil"), self._group())
        self._next()
        if _is_digits(token):
            return self._number(token)
        if token in (r"\frac", r"\binom"):
            one, other = self._argument(), self._argument()
            return _apply(divide if token == r"\frac" else binomial, one, other)
        if token == r"\sqrt":
            return self._square_root()
        if token[:1] == "\\" and token[1:] in _FUNCTIONS:
            return self._function(token[1:])
        return self._name(token)

    def _braces(self) -> Node:
        r"""Read {…} or {n \choose k}."""
        self._next()
        bars, self.bars = self.bars, 0
        node = self._sum()
        if self._peek() == r"\choose":
            self._next()
            node = _apply(binomial, node, self._sum())
        self.bars = bars
        self._expect("}")
        return node

    def _number(self, token: str) -> Node:
        value = Fraction(token.replace(",", "").rstrip("."))
        if self._peek() == r"\overline":
            repeated = self.tokens[self.position + 1 : self.position + 4]
            if len(repeated) < 3 or not repeated[1].isdigit() or "." not in token:
                raise NotAFormula(self.text)
            self.position += 4
            places = len(token.partition(".")[2])
            value += Fraction(int(repeated[1]), 10**places * (10 ** len(repeated[1]) - 1))
        if self._peek() == "_":
            raise NotAFormula(self.text)
        return _constant(value)

    def _square_root(self) -> Node:
        degree = _constant(2)
        if self._peek() == "[":
            degree = self._group()
        return _apply(root, self._argument(), degree)

    def _function(self, name: str) -> Node:
        base = exponent = None
        if name == "log" and self._peek() == "_":
            self._next()
            base = self._argument()
        if self._peek() == "^":
            self._next()
            inverse = [token for token in self.tokens[self.position : self.position + 4] if token not in "{}"][:2]
            exponent = self._argument(whole_number=True)
            if inverse == ["-", "1"] and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
                name, exponent = f"arc{name}", None
        argument = self._function_argument()
        if base is not None:
            node = _apply(logarithm, argument, base)
        else:
            node = _apply(functools.partial(call_function, _FUNCTIONS[name]), argument)
        return node if exponent is None else _apply(power, node, exponent)

    def _function_argument(self) -> Node:
        r"""Read (…), or a product without brackets: the 2x of \sin 2x."""
        if self._peek() in ("(", "[", "{"):
            node = self._atom()
            return self._with_suffixes(node) if self._peek() == "^" and self._degree_follows() else node
        node = self._signed()
        while (token := self._peek()) and (
            self._starts_factor(token) and token not in ("(", "[", "e") and token[1:] not in _FUNCTIONS or token == "/"
        ):
            if token == "/":
                self._next()
                node = _apply(divide, node, self._factor())
            else:
                node = _apply(multiply, node, self._factor())
        return node

    def _degree_follows(self) -> bool:
        return r"\circ" in self.tokens[self.position + 1 : self.position + 3]

    def _name(self, token: str) -> Node:
        if token == r"\pi":
            return lambda point: +point.mp.pi
        if token == "e":
            return lambda point: +point.mp.e
        if token == "i":
            self.is_complex = True
            return lambda point: point.mp.mpc(0, 1)
        stem = token.split("_")[0]
        if not (stem[:1].isalpha() or stem[1:] in GREEK or stem.split(" ")[0] in ACCENTS):
            raise NotAFormula(self.text)
        self.names.add(token)
        if stem.rstrip("'") in ("f", "g", "F", "G") and self._peek() == "(":
            return self._unknown_function(token)
        return lambda point: point.values[token]

    def _unknown_function(self, name: str) -> Node:
        argument = self._group()
        return lambda point: call_unknown_function(name, [argument(point)], point)


def _is_digits(token: str) -> bool:
    return token[:1].isdigit() or token[:1] == "."


def _constant(value: int | Fraction) -> Node:
    exact = Fraction(value)
    return lambda point: exact


def _apply(operation: Callable[..., Any], *nodes: Node) -> Node:
    return lambda point: operation(*(node(point) for node in nodes), point)
