"""GSM8K: grade-school word problems with written solutions."""

import re

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

# <<48/2=24>>: a calculator annotation.
_CALCULATION = re.compile(r"<<.*?>>")


class Gsm8k(Benchmark):
    """8,792 grade-school word problems with written solutions, one step per line.

    A row: {"question": "…", "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\n…\\n#### 72"}
    """

    name = "gsm8k"
    FILES = {"train": ("train.jsonl",), "test": ("test.jsonl",)}
    URLS = {
        f"{split}.jsonl": "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
        f"{split}.jsonl"
        for split in ("train", "test")
    }
    HOMEPAGE = "https://github.com/openai/grade-school-math"
    LICENSE = "MIT"
    PAPER = "arXiv 2110.14168"

    def parse_row(self, row: Row, split: str) -> Problem:
        solution, mark, answer = row.text("answer").rpartition("\n#### ")
        if not mark or not answer.strip():
            raise row.error("answer has no last line '#### <number>'")
        steps = tuple(line.strip() for line in _CALCULATION.sub("", solution).split("\n") if line.strip())
        return Problem(
            id=f"{split}/{row.number}",
            question=row.text("question"),
            answer=answer.strip(),
            kind="number",
            solution=(steps, answer.strip()),
        )
