"""TAL-SCQ5K, the English part: competition problems with choices."""

import re

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, letters_of

# Where solutions had line breaks.
_BREAK = re.compile(r" {2,}|\n")
_NO_SOLUTION = re.compile(r"N/A|omitted")


class Scq5kEn(Benchmark):
    """5,000 competition problems of primary and high school with two to ten choices.

    A row: {"queId": "8afc…", "difficulty": "2", "qtype": "single_choice", "problem": "…", "answer_value": "B",
    "answer_option_list": [[{"aoVal": "A", "content": "$$3$$ "}], …], "answer_analysis": ["…"] or null,
    "knowledge_point_routes": ["Overseas Competition->Knowledge Point->Number Theory Modules->…"], …}

    Of a knowledge point the third part is the subject. Solutions of several lines are demonstrations; those of one are
    "N/A", "omitted" or a remark as often as not, and some of the longer ones begin so.
    """

    name = "scq5k_en"
    FILES = {"train": ("en_single_choice_train_3K.jsonl",), "test": ("en_single_choice_test_2K.jsonl",)}
    URLS = {
        name: f"https://raw.githubusercontent.com/math-eval/TAL-SCQ5K/main/en_single_choice_constructed_5K/{name}"
        for name in ("en_single_choice_train_3K.jsonl", "en_single_choice_test_2K.jsonl")
    }
    HOMEPAGE = "https://github.com/math-eval/TAL-SCQ5K"
    LICENCE = "MIT"

    def problem(self, row: Row, split: str) -> Problem:
        options = _options(row)
        answer = row.one_of("answer_value", letters_of(options, "aoVal"))
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
    """[[{"aoVal": "A", …}], [{"aoVal": "B", …}]] without the inner lists, which hold one each."""
    nested = row.value("answer_option_list")
    if not isinstance(nested, list) or not all(isinstance(options, list) and len(options) == 1 for options in nested):
        raise row.fault("answer_option_list is no list of lists with one option each")
    return row._replace(values={"answer_option_list": [option for (option,) in nested]}).rows("answer_option_list")
