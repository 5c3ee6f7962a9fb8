"""CMM-Math: Chinese school mathematics, in part with images."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row, RowError

TYPES_FILE = "Question_type_index.txt"
# Multiple choice, fill in the blank, true or false, written solution.
TYPES = CHOICE, BLANK, JUDGEMENT, WRITTEN = "选择题", "填空题", "判断题", "解答题"

_IMAGE = "<ImageHere>"
_LETTERS = re.compile(r"[A-H](?:[\s,，、;；]*[A-H])*")
_TRUE, _FALSE = ("对", "正确", "√"), ("错", "错误", "×", r"$\times$")
# What separates two answers; not inside brackets or formulas, nor in 1,000.
_SEPARATOR = re.compile(r"[;；、，\n]|,(?![0-9]{3}(?![0-9]))")
_ENCLOSED = re.compile(r"\$.*?\$|\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]|\{[^{}]*\}", re.DOTALL)


class CmmMath(Benchmark):
    """28,069 problems of grades 1 to 12 of Chinese schools: multiple choice, fill in the blank, true or false.

    A row: {"id": "19900", "image": ["9285.jpg"], "answer": "A", "solution": "null", "level": "高二", "question": "…",
    "options": "A. $-1$\\nB. $1$\\nC. …" or [], "subject": "解析几何", "analysis": "…"}

    The type of each question is in Question_type_index.txt: {"选择题列表": ["18437", …], "填空题列表": […], …}, lists
    of ids. `image` follows the order of the marks <ImageHere> in question, options and analysis. Images of the analysis
    belong to the solution and are not shown.

    Problems whose answer cannot be checked by rule are left out. These are the problems that ask for a written solution
    (a third of all; the authors grade them with a model), and those with no answer, with missing images, or with an
    answer that is not one of their letters or not a truth value.
    """

    name = "cmm_math"
    FILES = {"train": ("train_data.jsonl", TYPES_FILE), "test": ("test_data.jsonl", TYPES_FILE)}
    ARCHIVES = ("images.zip",)
    URLS = {
        name: f"https://huggingface.co/datasets/ecnu-icalk/cmm-math/resolve/main/{name}"
        for name in ("train_data.jsonl", "test_data.jsonl", "images.zip")
    } | {TYPES_FILE: "https://raw.githubusercontent.com/ECNU-ICALK/EduChat-Math/main/data/Question_type_index.txt"}
    HOMEPAGE = "https://github.com/ECNU-ICALK/EduChat-Math"
    LICENSE = "BSD 3-Clause"
    PAPER = "arXiv 2409.02834"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the rows of a split, with a field "type"."""
        path, types_path = paths
        types = _read_types(types_path)
        for row in read_rows(path):
            yield row._replace(values={**row.values, "type": types.get(str(row.values.get("id")))})

    def parse_row(self, row: Row, split: str) -> Problem | None:
        """Return the problem of one row, None if its answer cannot be checked; see the class docstring."""
        if row.value("type") is None:
            raise row.error(f"id is in no list of {TYPES_FILE}")
        question, options, images = row.text("question"), _options(row), row.texts("image")
        n_shown = (question + options).count(_IMAGE)
        if row.value("type") == WRITTEN or n_shown > len(images):
            return None
        question, options = _number_images(question, options)
        choices = _split_options(options)
        answer, kind = _read_answer(row, choices)
        if not answer:
            return None
        return Problem(
            id=row.text("id"),
            question=question if choices or not options else f"{question}\n{options}",
            answer=answer,
            kind=kind,
            images=tuple(self.archives["images.zip"].read_image(row, name) for name in images[:n_shown]),
            choices=choices,
            level=row.text("level"),
            subject=row.optional_text("subject"),
        )


def _read_types(path: Path) -> dict[str, str]:
    """Return the type of each id.

    Raises:
      RowError: the file is not an index of question types.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8-sig"))
        return {id_: name for name in TYPES for id_ in index[f"{name}列表"]}
    except (ValueError, TypeError, KeyError) as error:
        raise RowError(f"{path.name}: not an object with lists of ids, such as 选择题列表 ({error!r})") from error


def _options(row: Row) -> str:
    """Return a text with a line for each option, "" if there are none; rows write both in several ways."""
    text = row.optional_text("options") if isinstance(row.value("options"), str) else "\n".join(row.texts("options"))
    return "" if text == "[]" else text


def _number_images(*texts: str) -> list[str]:
    """Replace the marks of images by [图1], [图2], … ("figure 1"), counted across the texts."""
    number = itertools.count(1)
    return [re.sub(_IMAGE, lambda _: f"[图{next(number)}]", text) for text in texts]


def _split_options(options: str) -> tuple[str, ...]:
    """Return the texts after A., B., … on one line or several; () if letters are missing."""
    parts = re.split(r"(?:^|\s)\(?([A-H])\s*[.．、:：)]", options)
    letters, texts = "".join(parts[1::2]), tuple(text.strip() for text in parts[2::2])
    is_complete = len(letters) > 1 and letters == ascii_uppercase[: len(letters)] and all(texts)
    return texts if is_complete and not parts[0].strip() else ()


def _read_answer(row: Row, choices: Sequence[str]) -> tuple[str, str]:
    """Return an answer and its kind; the answer is "" if it cannot be checked."""
    answer = row.optional_text("answer").strip(" .。")
    if answer == "null":
        return "", ""
    if row.value("type") == JUDGEMENT:
        return "Yes" if answer in _TRUE else "No" if answer in _FALSE else "", "yes_no"
    if row.value("type") == BLANK:
        parts = _split_answers(answer)
        return ", ".join(parts), "set" if len(parts) > 1 else "expression"
    answer = answer.strip("()（）")
    letters = re.findall("[A-H]", answer) if _LETTERS.fullmatch(answer) else []
    if choices and not set(letters) <= set(ascii_uppercase[: len(choices)]):
        return "", ""
    return ", ".join(letters), "set" if len(letters) > 1 else "choice"


def _split_answers(answer: str) -> list[str]:
    """Return the answers of several blanks, such as $3$ and $(1,2)$ for $3$; $(1,2)$."""
    covered = _ENCLOSED.sub(lambda enclosed: "X" * len(enclosed[0]), answer)
    spans = [(0, 0), *(separator.span() for separator in _SEPARATOR.finditer(covered)), (len(answer),) * 2]
    parts = (answer[start:end].strip() for (_, start), (end, _) in itertools.pairwise(spans))
    return list(filter(None, parts))
