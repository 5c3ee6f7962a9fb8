"""ASDiv: word problems of grades 1 to 6, diverse in language and in operations."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, RowError

# 9 (apples), 5/2, -3.5
_NUMBER = re.compile(r"(-?[0-9][0-9.,/]*)\s*(?:\([^()]*\))?")


class AsDiv(Benchmark):
    """2,305 word problems of elementary school, for evaluation only.

    A row: <Problem ID="nluds-0001" Grade="1" Source="http://…"><Body>…</Body><Question>…</Question>
    <Solution-Type>Addition</Solution-Type><Answer>9 (apples)</Answer><Formula>7+2=9</Formula></Problem>
    """

    name = "asdiv"
    FILES = {"test": ("ASDiv.xml",)}
    URLS = {"ASDiv.xml": "https://raw.githubusercontent.com/chaochun/nlu-asdiv-dataset/master/dataset/ASDiv.xml"}
    HOMEPAGE = "https://github.com/chaochun/nlu-asdiv-dataset"
    LICENSE = "CC BY-NC 4.0"
    PAPER = "https://aclanthology.org/2020.acl-main.92"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the `Problem` elements: their attributes, and the texts of their children."""
        (path,) = paths
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise RowError(f"{path.name}: not XML ({error})") from error
        for number, problem in enumerate(root.iter("Problem"), start=1):
            yield Row(f"{path.name}, row {number}", number, problem.attrib | {part.tag: part.text for part in problem})

    def parse_row(self, row: Row, split: str) -> Problem:
        subject = row.text("Solution-Type")
        answer, kind = _read_answer(row.text("Answer"), subject)
        return Problem(
            id=row.text("ID"),
            question=f"{row.text('Body')} {row.text('Question')}",
            answer=answer,
            kind=kind,
            level=row.text("Grade"),
            subject=subject,
        )


def _read_answer(answer: str, subject: str) -> tuple[str, str]:
    """Return an answer without its units, and its kind.

    Most answers are one number or several: 17 (years old); 12 (years old). 5:6 is a ratio or a time of day. The rest
    are names, dates and whole sentences.
    """
    parts = answer.split(";")
    numbers = [match[1] for part in parts if (match := _NUMBER.fullmatch(part.strip()))]
    if len(numbers) == len(parts):
        return ", ".join(numbers), "number" if len(numbers) == 1 else "set"
    if answer in ("Yes", "No"):
        return answer, "yes_no"
    return answer, "expression" if subject == "Ratio" or answer.startswith("-(") else "text"
