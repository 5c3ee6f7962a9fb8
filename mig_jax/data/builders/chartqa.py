"""ChartQA: questions about charts, asked by people or generated from what people wrote about them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

_ARCHIVE = "ChartQA Dataset.zip"


class ChartQa(Benchmark):
    """32,719 questions about charts, whose numbers may be off by 5%; subjects are human and augmented.

    A row: {"imgname": "41699051005347.png", "query": "How many food item is shown in the bar graph?", "label": "14"};
    several labels are one text, "[2013, 2016]", or a list.
    """

    name = "chartqa"
    # The questions are in the archive too: test/test_human.json, test/test_augmented.json, beside test/png …
    FILES = {"train": (), "val": (), "test": ()}
    ARCHIVES = (_ARCHIVE,)
    URLS = {_ARCHIVE: "https://huggingface.co/datasets/ahmed-masry/ChartQA/resolve/main/ChartQA%20Dataset.zip"}
    HOMEPAGE = "https://github.com/vis-nlp/ChartQA"
    LICENCE = "GPL-3.0"
    PAPER = "arXiv 2203.10244"

    def rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Those of both files, with a field that says which."""
        del paths
        for author in ("human", "augmented"):
            for row in self.archives[_ARCHIVE].rows(f"{split}/{split}_{author}.json"):
                yield row._replace(values={**row.values, "author": author})

    def problem(self, row: Row, split: str) -> Problem:
        author = row.text("author")
        return Problem(
            id=f"{split}/{author}/{row.number}",
            question=row.text("query"),
            answer=_label(row),
            kind="relaxed",
            images=(self.archives[_ARCHIVE].read(row, f"{split}/png/{row.text('imgname')}"),),
            subject=author,
        )


def _label(row: Row) -> str:
    """One label as it is; several in the spelling that those have that are published as one text."""
    if not isinstance(row.value("label"), list):
        return row.text("label")
    labels = row.texts("label")
    if not labels or not all(labels):
        raise row.fault("label is a list with no or with empty texts")
    return labels[0] if len(labels) == 1 else f"[{', '.join(labels)}]"
