"""No answer is run as code, and right answers to tasks that evaluate them stay right."""

import pytest

from mig_jax.text.answers import checks
from mig_jax.text.answers.safe_expressions import is_safe_expression, may_evaluate

EVALUATING = (
    "string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "simple_integration", "intermediate_integration",
    "polynomial_multiplication", "countdown",
)  # fmt: skip
ATTACKS = (
    "__import__('os').system('touch {path}')",
    "open('{path}', 'w')",
    '\'open("{path}", "w")\'',
    "(open)('{path}', 'w')",
    "[open][0]('{path}', 'w')",
    "open #\n('{path}', 'w')",
    "open\\\n('{path}', 'w')",
    'f\'{{open("{path}", "w")}}\'',
    'sin(\'open("{path}", "w")\')',
    "exec(chr(112))",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "1..real",
    "x.is_Add",
    "ｏpen(7)",
    "exit()",
    "(lambda: 0)()",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_not_safe(attack):
    assert not is_safe_expression(attack.format(path="/tmp/x"))


@pytest.mark.parametrize(
    "answer", ["-3", "0.5*x**2 + C", "sin(x)*exp(-2.5*x)/3 - log(2*x + 1)", "3*(x - 2)**2", "[[1, 0], [0, 1]]",
               "[['_', 'Q'], ['Q', '_']]", "(4 + 4) * 3", "1 2 3 4", "ABCDA", "x**3 - 5*x*y", "1.5e-3"],
)  # fmt: skip
def test_expressions_and_lists_are_safe(answer):
    assert is_safe_expression(answer)


@pytest.mark.parametrize("task", EVALUATING)
def test_no_task_runs_an_answer(task, tmp_path):
    """Check also that the right answers of the task are not refused as attacks."""
    pytest.importorskip("reasoning_gym")
    dataset, size = checks._dataset(task, 1, 3), 3
    assert may_evaluate(type(dataset))
    for n in range(size):
        entry = dataset[n]
        is_right = dataset.score_answer(answer=str(entry["answer"]), entry=entry) >= 0.99
        assert checks.is_solution(str(entry["answer"]), f"reasoning_gym:{task}:1:{size}:{n}") is is_right
    for attack in ATTACKS:
        assert checks.is_solution(attack.format(path=tmp_path / "run"), f"reasoning_gym:{task}:1:{size}:0") is False
    assert not list(tmp_path.iterdir())


def test_tasks_that_compare_texts_evaluate_nothing():
    pytest.importorskip("reasoning_gym")
    assert not may_evaluate(type(checks._dataset("letter_counting", 1, 5)))
