"""Super-CLEVR: CLEVR-style questions about rendered vehicles and their parts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.builders.clevr_cogent import answer_kind
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row

_QUESTIONS, _IMAGES = "superCLEVR_questions_30k.json", "images.zip"


class SuperClevr(Benchmark):
    """300,000 questions about 30,000 scenes of vehicles: 20,000 for training, 5,000 and 5,000 for evaluation.

    A row: {"image_index": 0, "image_filename": "superCLEVR_new_000000.png", "template_filename":
    "compare_integer.json", "program": […], "obj_map": …, "question": "Is the number of gray bicycles the same as the
    number of cyan metallic minivans?", "answer": false}; other answers are numbers or strings.
    """

    name = "super_clevr"
    FILES = {"train": (_QUESTIONS,), "val": (_QUESTIONS,), "test": (_QUESTIONS,)}
    ARCHIVES = (_IMAGES,)
    URLS = {
        name: f"https://huggingface.co/datasets/RyanWW/Super-CLEVR/resolve/main/{name}"
        for name in (_QUESTIONS, _IMAGES)
    }
    HOMEPAGE = "https://github.com/Lizw14/Super-CLEVR"
    LICENSE = "MIT"
    PAPER = "arXiv 2212.00259"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the rows of all splits, which are in one file; `parse_row` leaves out those of other splits."""
        del split
        return read_rows(*paths, under="questions", without=("program", "obj_map"))

    def parse_row(self, row: Row, split: str) -> Problem | None:
        """Return the problem of one row, None if its image is of another split."""
        image_index = row.text("image_index")
        if not image_index.isdecimal():
            raise row.error(f"image_index is {image_index!r}, not a non-negative integer")
        if _split_of(int(image_index)) != split:
            return None
        answer = _answer(row)
        return Problem(
            id=f"{split}/{row.number}",
            question=row.text("question"),
            answer=answer,
            kind=answer_kind(answer),
            images=(self.archives[_IMAGES].read_image(row, f"images/{row.text('image_filename')}"),),
            subject=row.optional_text("template_filename").removesuffix(".json"),
        )


def _split_of(image_index: int) -> str:
    """Return the split of an image; the splits are consecutive in the order of publication."""
    return "train" if image_index < 20_000 else "val" if image_index < 25_000 else "test"


def _answer(row: Row) -> str:
    answer = row.value("answer")
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return row.text("answer")
