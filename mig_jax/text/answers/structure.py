r"""The structure of an answer in LaTeX or plain text: lists, tuples, intervals, matrices, relations, single values.

`read` takes a normalized answer apart down to its single values, which stay texts.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mig_jax.text.answers.normalize import TEXT_COMMAND
from mig_jax.text.answers.quantities import parse_number

# Most nested brackets of an answer.
MAX_DEPTH = 12


class Value(NamedTuple):
    """A single value, with its unit: 5, 2x, 3 cm."""

    text: str


class Listing(NamedTuple):
    r"""Several answers in any order: 1, 2; \{1, 2\}; x = 1 or x = 2; \pm 1.

    word: "and" or "or" if one of these separates them.
    """

    members: "tuple[Node, ...]"
    word: str = ""


class Sequence(NamedTuple):
    """Several values in order: pairs, intervals, vectors.

    opening, closing: "(", "[" or "<"; the last for a vector, which other brackets may enclose, too.
    form: "row" or "column" of a matrix, else "".
    """

    opening: str
    members: "tuple[Node, ...]"
    closing: str
    form: str = ""


class Matrix(NamedTuple):
    """A matrix with several rows and columns."""

    rows: "tuple[tuple[Node, ...], ...]"


class Union_(NamedTuple):
    """A union of sets or intervals."""

    members: "tuple[Node, ...]"


class Relation(NamedTuple):
    """Sides with relations between adjacent ones: =, <, >, ≤, ≥, ≠ (in LaTeX)."""

    sides: "tuple[Node, ...]"
    operators: tuple[str, ...]


Node = Value | Listing | Sequence | Matrix | Union_ | Relation

_OPENING = r"\\\{|\\langle(?![A-Za-z])|[(\[{]"
_CLOSING = r"\\\}|\\rangle(?![A-Za-z])|[)\]}]"
_BRACKETS = rf"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})"
_WORD = rf"{TEXT_COMMAND} ?\{{ ?,? ?(?:and|or|和|或) ?\}}|(?<![A-Za-z\\{{])(?:and|or)(?![A-Za-z}}])|[和或与且]"
SEPARATOR = re.compile(rf"{_BRACKETS}|(?P<mark>[,;]|{_WORD})")
_COMMA = re.compile(rf"{_BRACKETS}|(?P<mark>,)")
_SEMICOLON = re.compile(rf"{_BRACKETS}|(?P<mark>;)")
_CUP = re.compile(rf"{_BRACKETS}|(?P<mark>\\cup(?![A-Za-z])|(?<=[)\]]) ?U ?(?=[(\[]))")
_SETMINUS = re.compile(
    rf"{_BRACKETS}"
    r"|(?P<mark>\\setminus(?![A-Za-z])|\\backslash(?![A-Za-z])|(?<=\}) ?[\\-] ?(?=\\\{))"
)
_APPROXIMATELY = re.compile(rf"{_BRACKETS}|(?P<mark>\\approx(?![A-Za-z]))")
_RELATION = re.compile(rf"{_BRACKETS}|(?P<mark>=|<|>|\\leq(?![A-Za-z])|\\geq(?![A-Za-z])|\\neq(?![A-Za-z]))")
_MEMBERSHIP = re.compile(r"[A-Za-z](?:_\{?\w+\}?)? ?\\in(?![A-Za-z]) ?(?P<set>.+)", re.DOTALL)
_SET_BUILDER = re.compile(
    r"(?P<name>[A-Za-z])(?: ?\\in ?\\mathbb ?\{?R\}?)? ?(?:\||:|\\mid(?![A-Za-z])) ?"
    r"(?:(?P=name) ?\\in ?\\mathbb ?\{? ?R ?\}? ?(?:,|and) ?)?(?P<condition>.+)",
    re.DOTALL,
)
_REALS = re.compile(r"\\mathbb ?(?:\{ ?R ?\}|R)")
_ENVIRONMENT = re.compile(
    r"\\begin ?\{(?P<name>[pbB]?(?:small)?matrix|array|cases|aligned|align\*?|gathered|split)\} ?"
    r"(?P<columns>\{[lcr| ]*\})?(?P<body>.*)\\end ?\{(?P=name)\}",
    re.DOTALL,
)
_BOX = re.compile(r"\\f?boxed ?\{")
_POINT = re.compile(rf"(?:{TEXT_COMMAND} ?\{{ ?[Pp]oint ?\}} ?|[Pp]oint )?\\?[A-Z]'? ?(?=\()")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_OTHER_SEPARATOR = re.compile(r", |;|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|[和或且]")
_EQUALS = re.compile(
    r"(?:\\(?:vec|mathbf|overrightarrow) ?)?\{?[A-Za-z]\}?(?: ?\([a-z]\)|(?: ?_ ?\{?\w\}?)|\^ ?\{?-1\}?|\^ ?T)? ?="
)
_INNER_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


def read(text: str) -> Node:
    """Return the structure of a normalized answer."""
    text = _strip_sentence_end(text)
    boxes = list(_boxes(text)) if _BOX.search(text) else []
    if boxes:
        return Listing(tuple(map(read, boxes))) if len(boxes) > 1 else read(boxes[0])
    if environment := _ENVIRONMENT.search(text):
        return _read_environment(text, environment)
    if parse_number(text, letters="all"):
        return Value(text)
    if whole := _MEMBERSHIP.fullmatch(text):
        return read(whole["set"])
    parts, marks = split(text, SEPARATOR)
    if len(parts) > 1 and any(parts):
        return Listing(tuple(_members(filter(None, parts))), _word_of(marks))
    return _read_one(text)


def _members(parts: Iterable[str]) -> Iterator[Node]:
    r"""Yield what the parts of a list are; both values of \pm 1."""
    for part in parts:
        node = read(part)
        yield from node.members if isinstance(node, Listing) and _PLUS_MINUS.search(part) else (node,)


def _word_of(marks: list[str]) -> str:
    """Return "and" or "or" if a mark is such a word."""
    words = (
        "and" if "and" in mark or mark in "和与且" else "or" if "or" in mark or mark == "或" else "" for mark in marks
    )
    return next(filter(None, words), "")


def split(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Return the parts of a text between the marks of a pattern that are outside of brackets, and the marks."""
    if pattern in (SEPARATOR, _COMMA) and _OTHER_SEPARATOR.search(text):
        # Commas with blanks, or words, separate, so those without are in numbers.
        text = _INNER_THOUSANDS.sub("", text)
    parts, marks, depth, start = [], [], 0, 0
    for match in pattern.finditer(text):
        depth += bool(match["opening"]) - bool(match["closing"])
        if match["mark"] and depth == 0:
            parts.append(text[start : match.start()].strip())
            marks.append(match["mark"])
            start = match.end()
    return [*parts, text[start:].strip()], marks


def enclosed(text: str) -> tuple[str, str, str] | None:
    """Return the brackets around a whole text and what is inside; None if there are none."""
    opening = re.match(_OPENING, text)
    if not opening:
        return None
    depth = 0
    for match in re.finditer(_BRACKETS, text):
        depth += bool(match["opening"]) - bool(match["closing"])
        if depth == 0:
            inside = text[opening.end() : match.start()].strip()
            return (opening[0], inside, match[0]) if match.end() == len(text) else None
    return None


def _read_one(text: str) -> Node:
    """Read a text that is no list."""
    inner = enclosed(text)
    if _PLUS_MINUS.search(text) and not (inner and inner[0] in (r"\{", "{")):
        plus, minus = _PLUS_MINUS.sub(_upper_sign, text), _PLUS_MINUS.sub(_lower_sign, text)
        return Listing((read(_strip_plus(plus)), read(minus)))
    parts, _ = split(text, _APPROXIMATELY)
    if len(parts) > 1:
        # The exact value, unless only a name has an approximate one.
        return read(parts[0]) if len(parts[0]) > 1 else Relation((read(parts[0]), read(parts[1])), ("=",))
    parts, operators = split(text, _RELATION)
    if len(parts) > 1:
        return Relation(tuple(map(read, parts)), tuple(operators)) if all(parts) else Value(text)
    parts, _ = split(text, _CUP)
    if len(parts) > 1 and all(parts):
        return Union_(tuple(map(read, parts)))
    parts, _ = split(text, _SETMINUS)
    if len(parts) == 2 and _REALS.fullmatch(parts[0]) and (without := _members_of_set(parts[1])):
        return Listing(tuple(Relation((Value("x"), point), (r"\neq",)) for point in without), "and")
    if _REALS.fullmatch(text):
        return Sequence("(", (Value(r"-\infty"), Value(r"\infty")), ")")
    point = _POINT.match(text)
    inner = enclosed(text[point.end() :] if point and "," in text else text)
    return _read_enclosed(text, *inner) if inner else Value(text)


def _read_enclosed(text: str, opening: str, inside: str, closing: str) -> Node:
    """Read what is in brackets."""
    if opening in (r"\{", "{") and r"\choose" not in inside:
        if not inside:
            return Listing(())
        if opening == r"\{" and (builder := _SET_BUILDER.fullmatch(inside)):
            return read(builder["condition"])
        inner = read(inside)
        if isinstance(inner, Listing) and not inner.word:
            return inner
        return Listing((inner,)) if opening == r"\{" else inner
    parts, _ = split(inside, _SEMICOLON)
    if len(parts) == 1:
        parts, _ = split(inside, _COMMA)
    if len(parts) > 1 and all(parts):
        opening, closing = opening.replace(r"\langle", "<"), closing.replace(r"\rangle", ">")
        members = tuple(map(read, parts))
        if opening == "[" and all(isinstance(row, Sequence) and row.opening == "[" for row in members):
            return _matrix([row.members for row in members if isinstance(row, Sequence)])
        return Sequence(opening, members, closing)
    if opening == "(" and closing == ")":
        inner = read(inside)
        return inner if not isinstance(inner, Value) else Value(text)
    return Sequence(opening, (read(inside),), closing) if inside and opening == "[" else Value(text)


def _read_environment(text: str, match: re.Match[str]) -> Node:
    """Read a matrix, or the rows of cases and aligned formulas."""
    before, after = text[: match.start()].strip(), text[match.end() :].strip()
    name, body = match["name"], match["body"].replace(r"\hline", "")
    rows = [row for row in map(str.strip, re.split(r"\\\\(?:\[[^\]]*\])?", body)) if row]
    if "matrix" in name or name == "array":
        if (before, after) not in (("", ""), ("(", ")"), ("[", "]"), (r"\{", ""), ("{", "")):
            return _read_equation_of_matrix(before, match[0], after) or Value(text)
        if before in (r"\{", "{"):
            return Listing(tuple(read(row.replace("&", " ")) for row in rows))
        return _matrix([tuple(read(cell.strip()) for cell in row.split("&")) for row in rows])
    if before or after:
        return _read_equation_of_matrix(before, match[0], after) or Value(text)
    if name == "cases" and all("&" in row and not re.search(r"& ?(?:=|<|>|\\[lgn]eq)", row) for row in rows):
        cells = [tuple(read(_strip_plus(cell)) for cell in row.split("&")) for row in rows]
        return Listing(tuple(Sequence("<", row, ">") for row in cells))
    return Listing(tuple(read(row.replace("&", "").strip()) for row in rows))


def _read_equation_of_matrix(before: str, matrix: str, after: str) -> Node | None:
    r"""Read the right-hand side of A = \begin{pmatrix} …"""
    if not after and _EQUALS.fullmatch(before):
        return Relation((Value(before.rstrip(" =")), read(matrix)), ("=",))
    return None


def _matrix(rows: list[tuple[Node, ...]]) -> Node:
    """Return a matrix, or a vector if it has one row or one column."""
    if len(rows) == 1:
        return Sequence("<", rows[0], ">", "row")
    if all(len(row) == 1 for row in rows):
        return Sequence("<", tuple(row[0] for row in rows), ">", "column")
    return Matrix(tuple(rows))


def _members_of_set(text: str) -> tuple[Node, ...]:
    inner = enclosed(text)
    node = read(text) if inner and inner[0] == r"\{" else None
    return node.members if isinstance(node, Listing) else ()


def _boxes(text: str) -> Iterator[str]:
    r"""Yield what is in each \boxed{…} of a text."""
    position = 0
    while box := _BOX.search(text, position):
        level, position = 1, box.end()
        for brace in re.finditer(r"[{}]", text[box.end() :]):
            level += 1 if brace[0] == "{" else -1
            if level == 0:
                position = box.end() + brace.end()
                yield text[box.end() : position - 1].strip()
                break


def _upper_sign(match: re.Match[str]) -> str:
    return "+" if match[1] == "pm" else "-"


def _lower_sign(match: re.Match[str]) -> str:
    return "-" if match[1] == "pm" else "+"


def _strip_plus(text: str) -> str:
    return text.strip().removeprefix("+").strip()


def _strip_sentence_end(text: str) -> str:
    return text.strip().rstrip(",;").strip() if not text.endswith("\\;") else text.strip()


def depth(text: str) -> int:
    """Return the largest number of brackets that are open at once."""
    deepest = open_now = 0
    for character in text:
        open_now += (character in "([{") - (character in ")]}")
        deepest = max(deepest, open_now)
    return deepest
