"""ChartQA: questions about charts, written by people or generated from human-written summaries."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

_ARCHIVE = "ChartQA Dataset.zip"


class ChartQa(Benchmark):
    """32,719 questions about charts; numbers are correct within 5%; the subject is human or augmented.

    A row: {"imgname": "41699051005347.png", "query": "How many food item is shown in the bar graph?", "label": "14"};
    several labels are one string, "[2013, 2016]", or a list.
    """

    name = "chartqa"
    # The archive also has the questions: test/test_human.json and test/test_augmented.json, beside test/png.
    FILES = {"train": (), "val": (), "test": ()}
    ARCHIVES = (_ARCHIVE,)
    URLS = {_ARCHIVE: "https://huggingface.co/datasets/ahmed-masry/ChartQA/resolve/main/ChartQA%20Dataset.zip"}
    HOMEPAGE = "https://github.com/vis-nlp/ChartQA"
    LICENSE = "GPL-3.0"
    PAPER = "arXiv 2203.10244"

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the rows of both files, with a field "author"."""
        del paths
        for author in ("human", "augmented"):
            for row in self.archives[_ARCHIVE].read_rows(f"{split}/{split}_{author}.json"):
                yield row._replace(values={**row.values, "author": author})

    def parse_row(self, row: Row, split: str) -> Problem:
        author = row.text("author")
        return Problem(
            id=f"{split}/{author}/{row.number}",
            question=row.text("query"),
            answer=_label(row),
            kind="relaxed",
            images=(self.archives[_ARCHIVE].read_image(row, f"{split}/png/{row.text('imgname')}"),),
            subject=author,
        )


def _label(row: Row) -> str:
    """Return one label as it is, and several labels in the form "[2013, 2016]", as some rows have them."""
    if not isinstance(row.value("label"), list):
        return row.text("label")
    labels = row.texts("label")
    if not labels or not all(labels):
        raise row.error("label is an empty list, or has an empty item")
    return labels[0] if len(labels) == 1 else f"[{', '.join(labels)}]"
