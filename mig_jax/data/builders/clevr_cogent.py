"""CLEVR-CoGenT: questions about rendered solids, whose colors are swapped between training and evaluation."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

_ARCHIVE = "CLEVR_CoGenT_v1.0.zip"


class ClevrCogent(Benchmark):
    """Ten questions about each of 100,000 scenes of solids; condition B swaps the colors of cubes and cylinders.

    Spheres have all colors in both conditions. The answers of testA and testB are not public.

    A row: {"question_index": 0, "question_family_index": 46, "image_index": 0, "image_filename":
    "CLEVR_trainA_000000.png", "split": "trainA", "program": […], "question": "Are there any gray things made of the
    same material as the big cyan cylinder?", "answer": "no"}
    """

    name = "clevr_cogent"
    # The archive also has the questions: questions/CLEVR_trainA_questions.json …
    FILES = {"trainA": (), "valA": (), "valB": ()}
    ARCHIVES = (_ARCHIVE,)
    URLS = {_ARCHIVE: f"https://dl.fbaipublicfiles.com/clevr/{_ARCHIVE}"}
    EVAL_SPLIT = "valB"
    HOMEPAGE = "https://cs.stanford.edu/people/jcjohns/clevr"
    LICENSE = "CC BY 4.0"
    PAPER = "arXiv 1612.06890"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        del paths
        name = f"questions/CLEVR_{split}_questions.json"
        return self.archives[_ARCHIVE].read_rows(name, under="questions", without=("program",))

    def parse_row(self, row: Row, split: str) -> Problem:
        answer = row.text("answer")
        image = self.archives[_ARCHIVE].read_image(row, f"images/{split}/{row.text('image_filename')}")
        return Problem(
            id=f"{split}/{row.text('question_index')}",
            question=row.text("question"),
            answer=answer,
            kind=answer_kind(answer),
            images=(image,),
        )


def answer_kind(answer: str) -> str:
    """Return the kind of an answer about a scene: yes or no, a count, or an attribute."""
    if answer in ("yes", "no"):
        return "yes_no"
    return "number" if answer.isdecimal() else "text"
