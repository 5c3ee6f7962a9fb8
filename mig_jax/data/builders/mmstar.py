"""MMStar: questions with choices that cannot be answered without seeing the image."""

import re
from string import ascii_uppercase

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

# How choices follow a question: what they begin with, and what is before each of them.
_STYLES = (
    (re.compile(r"\n+Options: (?=A: )"), re.compile(r"(?:^|, )([A-Z]): ")),
    (re.compile(r"\n+(?:Choices:\n)?(?=\(A\) )"), re.compile(r"(?:^|\n)\(([A-Z])\) ")),
)
# Some questions say how to write the answer, which is said elsewhere.
_HINT = re.compile(r"^Hint: Please answer .* at the end\.\nQuestion: ")


class MmStar(Benchmark):
    """1,500 questions with choices, collected from other benchmarks; level and subject are category and l2_category.

    A row: {"index": 0, "question": "Which option describe the object relationship in the image correctly?\\nOptions:
    A: The suitcase is on the book., B: The suitcase is beneath the cat., C: …, D: …", "image": bytes, "answer": "A",
    "category": "coarse perception", "l2_category": "image scene and topic", "meta_info": {"source": "MMBench",
    "split": "val", "image_path": "images/0.jpg"}}; or "Hint: …\\nQuestion: …\\nChoices:\\n(A) 40.7\\n(B) 74\\n…".
    """

    name = "mmstar"
    FILES = {"val": ("mmstar.parquet",)}
    URLS = {"mmstar.parquet": "https://huggingface.co/datasets/Lin-Chen/MMStar/resolve/main/mmstar.parquet"}
    EVAL_SPLIT = "val"
    HOMEPAGE = "https://github.com/MMStar-Benchmark/MMStar"
    LICENCE = "not stated"
    PAPER = "arXiv 2403.20330"

    def problem(self, row: Row, split: str) -> Problem:
        del split
        question, choices = split_choices(row.text("question"))
        letters = tuple(ascii_uppercase[: len(choices)] or ascii_uppercase)
        return Problem(
            id=row.text("index"),
            question=_HINT.sub("", question),
            answer=row.one_of("answer", letters),
            kind="choice",
            images=(row.image("image"),),
            choices=choices,
            level=row.text("category"),
            subject=row.text("l2_category"),
            source=row.row("meta_info").text("source"),
        )


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """A question and its choices; the whole text and () where it is not plain what the choices are.

    Choices may have commas and several lines; "nan" fills up to four and is none.
    """
    for beginning, mark in _STYLES:
        question, *rest = beginning.split(text)
        if len(rest) != 1:
            continue
        _, *pieces = mark.split(rest[0])
        letters, choices = pieces[::2], [choice.strip() for choice in pieces[1::2]]
        while choices and choices[-1] == "nan":
            choices.pop()
        if len(choices) > 1 and all(choices) and "".join(letters) == ascii_uppercase[: len(letters)]:
            return question, tuple(choices)
    return text, ()
