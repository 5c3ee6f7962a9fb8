"""Super-CLEVR: questions as in CLEVR, about rendered vehicles and their parts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.builders.clevr_cogent import kind_of
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row

_QUESTIONS, _IMAGES = "superCLEVR_questions_30k.json", "images.zip"


class SuperClevr(Benchmark):
    """300,000 questions about 30,000 scenes of vehicles: the first 20,000 for training, then 5,000 and 5,000.

    A row: {"image_index": 0, "image_filename": "superCLEVR_new_000000.png", "template_filename":
    "compare_integer.json", "program": […], "obj_map": …, "question": "Is the number of gray bicycles the same as the
    number of cyan metallic minivans?", "answer": false}; other answers are numbers or texts.
    """

    name = "super_clevr"
    FILES = {"train": (_QUESTIONS,), "val": (_QUESTIONS,), "test": (_QUESTIONS,)}
    ARCHIVES = (_IMAGES,)
    URLS = {
        name: f"https://huggingface.co/datasets/RyanWW/Super-CLEVR/resolve/main/{name}"
        for name in (_QUESTIONS, _IMAGES)
    }
    HOMEPAGE = "https://github.com/Lizw14/Super-CLEVR"
    LICENCE = "MIT"
    PAPER = "arXiv 2212.00259"

    def rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        del split
        # One file has the questions of all splits; those of another split are no problems.
        return read_rows(*paths, under="questions", without=("program", "obj_map"))

    def problem(self, row: Row, split: str) -> Problem | None:
        """The problem of one row, or None where its image is of another split."""
        image_index = row.text("image_index")
        if not image_index.isdecimal():
            raise row.fault(f"image_index is {image_index!r}, not a number from 0")
        if _split_of(int(image_index)) != split:
            return None
        answer = _answer(row)
        return Problem(
            id=f"{split}/{row.number}",
            question=row.text("question"),
            answer=answer,
            kind=kind_of(answer),
            images=(self.archives[_IMAGES].read(row, f"images/{row.text('image_filename')}"),),
            subject=row.optional_text("template_filename").removesuffix(".json"),
        )


def _split_of(image_index: int) -> str:
    return "train" if image_index < 20_000 else "val" if image_index < 25_000 else "test"


def _answer(row: Row) -> str:
    answer = row.value("answer")
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return row.text("answer")
