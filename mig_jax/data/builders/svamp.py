"""SVAMP: variations of known word problems, with another question or another wording."""

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row


class Svamp(Benchmark):
    """1,000 word problems with one or two operations, for evaluation only.

    A row: {"ID": "chal-1", "Body": "…", "Question": "…?", "Equation": "( 76.0 - 25.0 )", "Answer": 51.0,
    "Type": "Subtraction"}
    """

    name = "svamp"
    FILES = {"test": ("SVAMP.json",)}
    URLS = {"SVAMP.json": "https://raw.githubusercontent.com/arkilpatel/SVAMP/main/SVAMP.json"}
    HOMEPAGE = "https://github.com/arkilpatel/SVAMP"
    LICENSE = "MIT"
    PAPER = "arXiv 2103.07191"

    def parse_row(self, row: Row, split: str) -> Problem:
        # A third of the bodies lack their full stop.
        body = row.text("Body").removesuffix(".")
        return Problem(
            id=row.text("ID"),
            question=f"{body}. {row.text('Question')}",
            answer=row.text("Answer"),
            kind="number",
            subject=row.text("Type"),
        )
