"""Choices of a row and the answers that name one of them.

Choices are

    ["west", "east"]                                  a list of texts
    "A. west\\nB. east"                               a text with a line for each; so may be a template
    [{"label": "A", "text": "west"}, …]               a list of objects
    {"label": ["A", "B"], "text": ["west", "east"]}   lists of labels and texts
    {"A": "west", "B": "east"}                        texts by their labels

Labels need not be A, B, …: 1, 2, … or (a), (b), … are read, too. In prompts and as answers they become A, B, ….

Answers are labels ("B", "(B)", "B. east"), texts ("east") or indices (1, from 0). One form holds for all rows of a
file: the one that reads them all. Where several do and disagree, the rows are ambiguous, and the config names the form.
So are indices of which none is 0: they may be numbers from 1.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from mig_jax.data.columns import is_template, required_text, value_of
from mig_jax.data.rows import Row

# How answers name a choice, in the order in which forms are reported. `number` counts from 1; it is never guessed.
FORMS = ("label", "text", "index", "number")
_GUESSED = ("label", "text", "index")
_LETTERED_LINE = re.compile(r"^[^\S\n]*\(?([A-Z])[.):](.*)", re.MULTILINE)
_LABEL_FIELDS = ("label", "labels", "key", "letter", "id")
_TEXT_FIELDS = ("text", "texts", "content", "value", "choice")


class Choices(NamedTuple):
    """The choices of a question.

    texts: in order.
    labels: how the row names them; A, B, … if it does not.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]


def read_choices(row: Row, column: str) -> Choices | None:
    """Return the choices that an entry of `columns` gives for a row, None if it has none.

    Raises:
      RowError: they have none of the forms of the module docstring, one is empty, or there are more than 26.
    """
    is_text = is_template(column) or column.startswith("=")
    value = required_text(row, column) if is_text else value_of(row, column)
    if value is None or (isinstance(value, str) and not value.strip() and not is_text):
        return None
    value = _parsed(value)
    if isinstance(value, str):
        choices = _from_lines(row, column, value)
    elif isinstance(value, Mapping):
        choices = _from_mapping(row, column, value)
    else:
        choices = _from_list(row, column, value)
    if choices is None or not choices.texts:
        return None
    if not all(text.strip() for text in choices.texts):
        raise row.error(f"{column} has an empty item")
    if len(choices.texts) > len(ascii_uppercase):
        raise row.error(f"{column} has {len(choices.texts)} items, more than there are letters")
    if len(set(map(_bare, choices.labels))) < len(choices.labels):
        raise row.error(f"{column} has two choices with the same label: {', '.join(choices.labels)}")
    return choices


def readings(answer: str, choices: Choices) -> dict[str, int]:
    """Return, for each of `FORMS` that reads an answer, the choice that it names, from 0.

    Two choices with the same text are not told apart by it, so their text reads as neither.
    """
    found = {}
    labels = [_bare(label) for label in choices.labels]
    # A label and more, as in "B. east"; but 3.5 is no label 3, and a text such as "A. Lincoln" is itself.
    labelled = re.match(r"\(?([A-Za-z]+)[.):]|\(?([^\s.():]+)[.):](?=\s)", answer)
    label = (labelled[1] or labelled[2]).upper() if labelled and answer not in choices.texts else _bare(answer)
    if label in labels:
        found["label"] = labels.index(label)
    if choices.texts.count(answer) == 1:
        found["text"] = choices.texts.index(answer)
    if answer.isdecimal():
        found |= {"index": int(answer)} if int(answer) < len(choices.texts) else {}
        found |= {"number": int(answer) - 1} if 1 <= int(answer) <= len(choices.texts) else {}
    return found


def choose_forms(answers: Sequence[tuple[str, Choices]], form: str = "") -> list[str | int]:
    """Return the choice that each answer names, from 0, or why that is not known.

    Args:
      answers: of all rows with choices of a file.
      form: one of `FORMS`; "" finds it, see the module docstring.
    """
    read = [readings(answer, choices) for answer, choices in answers]
    if not form:  # a row whose labels are numbers means these
        read = [{f: n for f, n in found.items() if f != "index" or "label" not in found} for found in read]
    for_all = tuple(f for f in _GUESSED if all(f in found for found in filter(None, read)))
    if for_all == ("index",) and all("number" in found for found in read):  # no answer is 0
        for_all = ("index", "number")
    allowed = (form,) if form else for_all or _GUESSED
    result: list[str | int] = []
    for (answer, choices), found in zip(answers, read, strict=True):
        named = {found[f]: f for f in reversed(allowed) if f in found}
        if len(named) == 1:
            result.append(next(iter(named)))
        elif named:
            meant = " or ".join(f"{ascii_uppercase[n]} (as its {f})" for n, f in reversed(named.items()))
            result.append(f"answer {answer!r} may be {meant}: set data.choice_answers to label, text, index or number")
        else:
            how = f" as its {form}" if form else ""
            hint = " (for numbers from 1, data.choice_answers=number)" if "number" in found and not form else ""
            result.append(f"answer {answer!r} is none of the choices {', '.join(choices.texts)}{how}{hint}")
    return result


def _parsed(value: object) -> object:
    """Return a list or an object, also from a text that holds it as JSON or as Python writes it (MMMU)."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return value


def _from_lines(row: Row, column: str, text: str) -> Choices:
    lines = _LETTERED_LINE.findall(text)
    if not lines or [letter for letter, _ in lines] != list(ascii_uppercase[: len(lines)]):
        raise row.error(f"{column} has no lines 'A. …', 'B. …' in this order")
    return Choices(tuple(choice.strip() for _, choice in lines), tuple(letter for letter, _ in lines))


def _from_mapping(row: Row, column: str, value: Mapping[str, object]) -> Choices | None:
    """Return the choices of {"label": […], "text": […]} or of {"A": "…", "B": "…"}."""
    nested = Row(f"{row.location}: {column}", row.number, value)
    texts = next((name for name in _TEXT_FIELDS if isinstance(value.get(name), list | tuple)), None)
    if texts:
        labels = next((name for name in _LABEL_FIELDS if isinstance(value.get(name), list | tuple)), None)
        items = nested.texts(texts)
        named = nested.texts(labels) if labels else tuple(ascii_uppercase[: len(items)])
        if len(named) != len(items):
            raise row.error(f"{column} has {len(items)} texts, but {len(named)} labels")
        return Choices(items, named)
    # Tables give each row all labels of the file, with null for those that it lacks.
    given = [label for label in value if value[label] is not None]
    return Choices(tuple(nested.text(label) for label in given), tuple(map(str, given))) if given else None


def _from_list(row: Row, column: str, value: object) -> Choices:
    """Return the choices of a list of texts or of objects with a text and a label."""
    items = value if isinstance(value, list | tuple) else ()
    if items and all(isinstance(item, Mapping) for item in items):
        objects = Row(row.location, row.number, {column: items}).rows(column)
        names = [_field(objects, fields) for fields in (_TEXT_FIELDS, _LABEL_FIELDS)]
        if names[0] is None:
            raise row.error(f"{column} is a list of objects without a text ({', '.join(_TEXT_FIELDS)})")
        texts = tuple(item.text(names[0]) for item in objects)
        labels = tuple(item.text(names[1]) for item in objects) if names[1] else tuple(ascii_uppercase[: len(texts)])
        return Choices(texts, labels)
    texts = Row(row.location, row.number, {column: value}).texts(column)
    return _without_labels(texts)


def _without_labels(texts: tuple[str, ...]) -> Choices:
    """Return listed texts without labels A, B, … of their own, as in ["A. west", "B. east"] or ["(A) west", …]."""
    matched = [_LETTERED_LINE.fullmatch(text) for text in texts]
    letters = [match[1] for match in matched if match]
    if len(texts) > 1 and letters == list(ascii_uppercase[: len(texts)]):
        return Choices(tuple(match[2].strip() for match in matched if match), tuple(letters))
    return Choices(texts, tuple(ascii_uppercase[: len(texts)]))


def _field(objects: Sequence[Row], names: Sequence[str]) -> str | None:
    return next((name for name in names if all(name in item.values for item in objects)), None)


def _bare(label: str) -> str:
    """Return a label without the signs around it, in upper case: (a), a. and A) are A."""
    return re.sub(r"^[(\[]?\s*([^\s()\[\]]+?)\s*[.):\]]*$", r"\1", label.strip()).upper()
