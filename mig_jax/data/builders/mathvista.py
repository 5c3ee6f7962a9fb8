"""MathVista: mathematical questions about images, collected from 31 benchmarks."""

import re
from decimal import Decimal
from string import ascii_uppercase

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

_TESTMINI = "testmini-00000-of-00001-725687bf7a18d64b.parquet"

# answer_type → kind, for questions without choices.
_KINDS = {"integer": "integer", "float": "rounded", "list": "text", "text": "text"}


class MathVista(Benchmark):
    """1,000 questions about figures, plots and photographs; level and subject are grade and task.

    The answers of the 5,141 questions of the split test are not public.

    A row: {"pid": "2", "question": "what is the total volume of the measuring cup?", "image": "images/2.jpg",
    "decoded_image": {"bytes": …}, "choices": null, "unit": "g", "precision": null, "answer": "1000", "question_type":
    "free_form", "answer_type": "integer", "query": "Hint: …", "metadata": {"source": …, "grade": …, "task": …, …}};
    if question_type is multi_choice, choices is a list and the answer one of them; a float has `precision` decimals.
    """

    name = "mathvista"
    FILES = {"testmini": (_TESTMINI,)}
    URLS = {_TESTMINI: f"https://huggingface.co/datasets/AI4Math/MathVista/resolve/main/data/{_TESTMINI}"}
    EVAL_SPLIT = "testmini"
    HOMEPAGE = "https://mathvista.github.io"
    LICENSE = "CC BY-SA 4.0"
    PAPER = "arXiv 2310.02255"

    def parse_row(self, row: Row, split: str) -> Problem:
        del split
        unit, metadata = row.optional_text("unit"), row.row("metadata")
        choices, kind, answer = _read_answer(row)
        return Problem(
            id=row.text("pid"),
            question=row.text("question") + (f" (Unit: {unit})" if unit else ""),
            answer=answer,
            kind=kind,
            images=(row.image("decoded_image"),),
            choices=choices,
            level=metadata.text("grade"),
            subject=metadata.text("task"),
            source=metadata.text("source"),
        )


def _read_answer(row: Row) -> tuple[tuple[str, ...], str, str]:
    """Return choices, kind and answer."""
    if row.one_of("question_type", ("multi_choice", "free_form")) == "multi_choice":
        choices = row.texts("choices")
        if not 2 <= len(choices) <= len(ascii_uppercase):
            raise row.error(f"choices has {len(choices)} items, not 2 to {len(ascii_uppercase)}")
        return choices, "nearest_choice", ascii_uppercase[choices.index(row.one_of("answer", choices))]
    kind = _KINDS[row.one_of("answer_type", tuple(_KINDS))]
    if kind == "text":
        return (), kind, row.text("answer")
    return (), kind, _with_decimals(row, row.text("precision") if kind == "rounded" else "0")


def _with_decimals(row: Row, decimals: str) -> str:
    """Return the answer with the given number of decimals: with 2, 1.5 becomes 1.50."""
    if not decimals.isdecimal():
        raise row.error(f"precision is {decimals!r}, not a non-negative integer")
    answer = row.text("answer")
    if not re.fullmatch(rf"[+-]?\d+(\.\d{{0,{decimals}}}0*)?", answer):
        raise row.error(f"answer is {answer!r}, not a number with at most {decimals} decimals")
    return f"{Decimal(answer):.{decimals}f}"
