"""CMM-Math: Chinese school mathematics, much of it with pictures."""

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
TYPES = CHOICE, BLANK, JUDGEMENT, WRITTEN = "选择题", "填空题", "判断题", "解答题"

_IMAGE = "<ImageHere>"
_LETTERS = re.compile(r"[A-H](?:[\s,，、;；]*[A-H])*")
_TRUE, _FALSE = ("对", "正确", "√"), ("错", "错误", "×", r"$\times$")
# Between two answers, but not inside of brackets and formulas, nor in 1,000.
_SEPARATOR = re.compile(r"[;；、，\n]|,(?![0-9]{3}(?![0-9]))")
_ENCLOSED = re.compile(r"\$.*?\$|\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]|\{[^{}]*\}", re.DOTALL)


class CmmMath(Benchmark):
    """28,069 problems of the twelve grades of Chinese schools: with choices, with blanks, or to be judged.

    A row: {"id": "19900", "image": ["9285.jpg"], "answer": "A", "solution": "null", "level": "高二", "question": "…",
    "options": "A. $-1$\\nB. $1$\\nC. …" or [], "subject": "解析几何", "analysis": "…"}

    What is asked for is in Question_type_index.txt: {"选择题列表": ["18437", …], "填空题列表": […], …}, lists of ids.
    Images are named in the order of the marks <ImageHere> in question, options and analysis; those of the analysis
    belong to the solution and are not shown.

    Left out are problems whose answer cannot be checked by rule: those that ask for a written solution (a third of
    all; the authors have them graded by a model), and those without an answer, without the images that they show, or
    whose answer is no letter of theirs or no verdict.
    """

    name = "cmm_math"
    FILES = {"train": ("train_data.jsonl", TYPES_FILE), "test": ("test_data.jsonl", TYPES_FILE)}
    ARCHIVES = ("images.zip",)
    URLS = {
        name: f"https://huggingface.co/datasets/ecnu-icalk/cmm-math/resolve/main/{name}"
        for name in ("train_data.jsonl", "test_data.jsonl", "images.zip")
    } | {TYPES_FILE: "https://raw.githubusercontent.com/ECNU-ICALK/EduChat-Math/main/data/Question_type_index.txt"}
    HOMEPAGE = "https://github.com/ECNU-ICALK/EduChat-Math"
    LICENCE = "BSD 3-Clause"
    PAPER = "arXiv 2409.02834"

    def rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """The rows of a split, with the type of each."""
        path, types_path = paths
        types = _read_types(types_path)
        for row in read_rows(path):
            yield row._replace(values={**row.values, "type": types.get(str(row.values.get("id")))})

    def problem(self, row: Row, split: str) -> Problem | None:
        if row.value("type") is None:
            raise row.fault(f"id is in no list of {TYPES_FILE}")
        question, options, images = row.text("question"), _options(row), row.texts("image")
        shown = (question + options).count(_IMAGE)
        if row.value("type") == WRITTEN or shown > len(images):
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
            images=tuple(self.archives["images.zip"].read(row, name) for name in images[:shown]),
            choices=choices,
            level=row.text("level"),
            subject=row.optional_text("subject"),
        )


def _read_types(path: Path) -> dict[str, str]:
    """The type of each id."""
    try:
        index = json.loads(path.read_text(encoding="utf-8-sig"))
        return {problem: name for name in TYPES for problem in index[f"{name}列表"]}
    except (ValueError, TypeError, KeyError) as error:
        raise RowError(f"{path.name}: no object with lists of ids, such as 选择题列表 ({error!r})") from error


def _options(row: Row) -> str:
    """A text with a line for each option; "" where there are none, which is written in several ways."""
    text = row.optional_text("options") if isinstance(row.value("options"), str) else "\n".join(row.texts("options"))
    return "" if text == "[]" else text


def _number_images(*texts: str) -> list[str]:
    """The same texts, in which images are called 图1, 图2, …"""
    number = itertools.count(1)
    return [re.sub(_IMAGE, lambda _: f"[图{next(number)}]", text) for text in texts]


def _split_options(options: str) -> tuple[str, ...]:
    """The texts behind A., B., …, each in a line of its own or all in one; () when letters are missing."""
    parts = re.split(r"(?:^|\s)\(?([A-H])\s*[.．、:：)]", options)
    letters, texts = "".join(parts[1::2]), tuple(text.strip() for text in parts[2::2])
    is_complete = len(letters) > 1 and letters == ascii_uppercase[: len(letters)] and all(texts)
    return texts if is_complete and not parts[0].strip() else ()


def _read_answer(row: Row, choices: Sequence[str]) -> tuple[str, str]:
    """An answer and its kind; no answer where there is none that can be checked."""
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
    """The answers of several blanks, such as $3$ and $(1,2)$ in $3$; $(1,2)$."""
    covered = _ENCLOSED.sub(lambda enclosed: "X" * len(enclosed[0]), answer)
    cuts = [(0, 0), *(separator.span() for separator in _SEPARATOR.finditer(covered)), (len(answer),) * 2]
    parts = (answer[start:end].strip() for (_, start), (end, _) in zip(cuts, cuts[1:], strict=False))
    return list(filter(None, parts))
