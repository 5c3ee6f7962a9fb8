"""TAL-SCQ5K, English part: multiple-choice competition problems."""

import re

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, choice_letters

# What solutions have in place of line breaks.
_BREAK = re.compile(r" {2,}|\n")
_NO_SOLUTION = re.compile(r"N/A|omitted")


class Scq5kEn(Benchmark):
    """5,000 competition problems of primary and high school, each with two to ten choices.

    A row: {"queId": "8afc…", "difficulty": "2", "qtype": "single_choice", "problem": "…", "answer_value": "B",
    "answer_option_list": [[{"aoVal": "A", "content": "$$3$$ "}], …], "answer_analysis": ["…"] or null,
    "knowledge_point_routes": ["Overseas Competition->Knowledge Point->Number Theory Modules->…"], …}

    The third part of the first knowledge point is the subject. Only solutions of several lines are used: those of one
    line are often "N/A", "omitted" or a remark. Longer ones that start with "N/A" or "omitted" are left out too.
    """

    name = "scq5k_en"
    FILES = {"train": ("en_single_choice_train_3K.jsonl",), "test": ("en_single_choice_test_2K.jsonl",)}
    URLS = {
        name: f"https://raw.githubusercontent.com/math-eval/TAL-SCQ5K/main/en_single_choice_constructed_5K/{name}"
        for name in ("en_single_choice_train_3K.jsonl", "en_single_choice_test_2K.jsonl")
    }
    HOMEPAGE = "https://github.com/math-eval/TAL-SCQ5K"
    LICENSE = "MIT"

    def parse_row(self, row: Row, split: str) -> Problem:
        options = _options(row)
        answer = row.one_of("answer_value", choice_letters(options, "aoVal"))
        steps = tuple(filter(None, map(str.strip, _BREAK.split("\n".join(row.texts("answer_analysis"))))))
        points = "".join(row.texts("knowledge_point_routes")[:1]).split("->")
        return Problem(
            id=row.text("queId"),
            question=row.text("problem"),
            answer=answer,
            kind="choice",
            solution=(steps, answer) if len(steps) > 1 and not _NO_SOLUTION.match(steps[0]) else None,
            choices=tuple(option.text("content") for option in options),
            level=row.text("difficulty"),
            subject=points[2].strip() if len(points) > 2 else "",
        )


def _options(row: Row) -> list[Row]:
    """Return the options of [[{"aoVal": "A", …}], [{"aoVal": "B", …}]], where each inner list has one item."""
    nested = row.value("answer_option_list")
    if not isinstance(nested, list) or not all(isinstance(options, list) and len(options) == 1 for options in nested):
        raise row.error("answer_option_list is not a list of lists with one option each")
    return row._replace(values={"answer_option_list": [option for (option,) in nested]}).rows("answer_option_list")
