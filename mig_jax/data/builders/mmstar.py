"""MMStar: multiple-choice questions that cannot be answered without the image."""

import re
from string import ascii_uppercase

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

# How choices follow a question: (start of the list, label of each choice).
_STYLES = (
    (re.compile(r"\n+Options: (?=A: )"), re.compile(r"(?:^|, )([A-Z]): ")),
    (re.compile(r"\n+(?:Choices:\n)?(?=\(A\) )"), re.compile(r"(?:^|\n)\(([A-Z])\) ")),
)
# Some questions start with an instruction about the form of the answer; the prompt already has one.
_HINT = re.compile(r"^Hint: Please answer .* at the end\.\nQuestion: ")


class MmStar(Benchmark):
    """1,500 multiple-choice questions from other benchmarks; level and subject are category and l2_category.

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
    LICENSE = "not stated"
    PAPER = "arXiv 2403.20330"

    def parse_row(self, row: Row, split: str) -> Problem:
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
    """Split a text into the question and its choices.

    Choices may have commas and several lines. Trailing "nan" choices are padding and are dropped.

    Returns:
      The question and the choices; the whole text and () if the choices are ambiguous.
    """
    for list_start, label in _STYLES:
        question, *rest = list_start.split(text)
        if len(rest) != 1:
            continue
        _, *pieces = label.split(rest[0])
        letters, choices = pieces[::2], [choice.strip() for choice in pieces[1::2]]
        while choices and choices[-1] == "nan":
            choices.pop()
        if len(choices) > 1 and all(choices) and "".join(letters) == ascii_uppercase[: len(letters)]:
            return question, tuple(choices)
    return text, ()
