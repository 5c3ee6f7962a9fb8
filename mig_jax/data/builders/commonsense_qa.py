"""CommonsenseQA: multiple-choice questions about everyday knowledge."""

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, choice_letters


class CommonsenseQa(Benchmark):
    """12,102 questions with five choices; test_rand_split_no_answers.jsonl has no answers and is left out.

    A row: {"answerKey": "A", "id": "1afa…", "question": {"question_concept": "revolving door", "stem": "…?",
    "choices": [{"label": "A", "text": "bank"}, …]}}
    """

    name = "commonsense_qa"
    FILES = {"train": ("train_rand_split.jsonl",), "validation": ("dev_rand_split.jsonl",)}
    URLS = {
        name: f"https://s3.amazonaws.com/commensenseqa/{name}"
        for name in ("train_rand_split.jsonl", "dev_rand_split.jsonl")
    }
    EVAL_SPLIT = "validation"
    HOMEPAGE = "https://www.tau-nlp.org/commonsenseqa"
    LICENSE = "MIT"
    PAPER = "arXiv 1811.00937"

    def parse_row(self, row: Row, split: str) -> Problem:
        question = row.row("question")
        choices = question.rows("choices")
        return Problem(
            id=row.text("id"),
            question=question.text("stem"),
            answer=row.one_of("answerKey", choice_letters(choices, "label")),
            kind="choice",
            choices=tuple(choice.text("text") for choice in choices),
        )
