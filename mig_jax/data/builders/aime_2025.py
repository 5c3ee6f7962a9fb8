"""AIME 2025: an American competition for high schools, both parts."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row

_INTEGER = re.compile(r"([0-9]{1,3})(?:\^\\circ)?")


class Aime2025(Benchmark):
    r"""The 30 problems of the American Invitational Mathematics Examination 2025, parts I and II.

    The competition itself publishes no files. These two, one per part and in the order of the exam, are the release
    that others evaluate with. They hold questions and answers only.

    A row: {"question": "Find the sum of all integer bases $b>9$ …", "answer": "70"}

    Answers are integers from 0 to 999; one of them keeps its unit, 336^\circ.
    """

    name = "aime_2025"
    FILES = {"test": ("aime2025-I.jsonl", "aime2025-II.jsonl")}
    URLS = {
        name: f"https://huggingface.co/datasets/opencompass/AIME2025/resolve/main/{name}"
        for name in ("aime2025-I.jsonl", "aime2025-II.jsonl")
    }
    HOMEPAGE = "https://huggingface.co/datasets/opencompass/AIME2025"
    LICENSE = "MIT"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the rows of both parts, with a field "part"."""
        for path in paths:
            for row in read_rows(path):
                yield row._replace(values={**row.values, "part": path.stem.removeprefix("aime2025-")})

    def parse_row(self, row: Row, split: str) -> Problem:
        answer = row.text("answer")
        integer = _INTEGER.fullmatch(answer)
        if not integer:
            raise row.error(f"answer is {answer!r}, not an integer from 0 to 999")
        return Problem(
            id=f"{row.text('part')}/{row.number}",
            question=row.text("question"),
            answer=str(int(integer[1])),
            kind="number",
        )
