"""Grading by worker processes that hang, die or fail to start."""

import json
import signal
import subprocess
import sys
import time

import pytest

from mig_jax.errors import UserError
from mig_jax.text.answers import checks, formulas
from mig_jax.text.answers.verifier import AnswerPair, Grade, Verifier

# Takes forever to grade.
ENDLESS = AnswerPair("$9^{9^{9}}$", "7", "expression")
# Takes algebra.
SUM = r"\sum_{k=1}^{3} x"
RIGHT, WRONG, HUNG = Grade(True), Grade(False), Grade(False, timed_out=True)


@pytest.fixture(scope="module")
def pool():
    with Verifier(workers=1, deadline_s=20.0) as pool:
        yield pool


@pytest.fixture(scope="module")
def impatient():
    # On a busy machine, too, an answer that ends is graded within this time.
    with Verifier(workers=2, deadline_s=4.0) as pool:
        yield pool


ALGEBRA = {
    (r"\int_0^1 x dx", "1/2"): True,
    (r"\int_0^1 x dx", "1/3"): False,
    (r"\frac{\pi^2}{6}", r"\sum_{n=1}^{\infty} \frac{1}{n^2}"): True,
    (r"\lim_{x\to0} \frac{\sin x}{x}", "1"): True,
    (r"\frac{d}{dx} x^2", "2x"): True,
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"): True,
    (r"\int_0^x F dx", r"\int_0^x f dx"): False,
    # Two numbers that differ by less than any absolute tolerance.
    (r"\sum_{k=1}^{200} \frac{1}{k!}", r"\sum_{k=1}^{201} \frac{1}{k!}"): False,
    (r"\sum_{n=1}^{\infty", "1"): False,
}


def test_algebra():
    """Check what takes algebra, without a worker; that it takes algebra, too."""
    assert {pair: checks.is_equal(*pair) for pair in ALGEBRA} == ALGEBRA
    assert {pair: formulas.is_same_math(*pair) for pair in ALGEBRA} == dict.fromkeys(ALGEBRA)


def test_kinds(pool):
    chain_sum = "reasoning_gym:chain_sum:1:1000:3"
    pairs = [
        AnswerPair("(b)", "B", "choice"),
        AnswerPair("C", "B", "choice"),
        AnswerPair("river", "B", "choice", ("bank", "river")),
        AnswerPair("new  york", "New York", "text"),
        AnswerPair("1.0", "1", "text"),
        AnswerPair("x+1, 2", "2, 1+x", "set"),
        AnswerPair("x+1, 3", "2, 1+x", "set"),
        AnswerPair(" -128 ", chain_sum, "reasoning_gym"),
        AnswerPair("-12", chain_sum, "reasoning_gym"),
        AnswerPair(chain_sum, chain_sum, "reasoning_gym"),
        AnswerPair(None, chain_sum, "reasoning_gym"),
        AnswerPair("4", "4", "expression"),
    ]
    is_correct = [True, False, True, True, False, True, False, True, False, False, False, True]
    assert pool.grade(pairs) == [Grade(expected) for expected in is_correct]
    assert pool.grade([]) == []
    with pytest.raises(ValueError, match="unknown kind of answer maths; use one of number, expression, "):
        pool.grade([AnswerPair("4", "4", "maths")])
    with pytest.raises(UserError, match="'reasoning_gym:no_task:1:10:3': ValueError: Dataset"):
        pool.grade([AnswerPair("4", "reasoning_gym:no_task:1:10:3", "reasoning_gym")])


def test_answers_without_algebra_need_no_worker():
    with Verifier() as verifier:
        pairs = [
            AnswerPair("0.5", "1/2", "expression"),
            AnswerPair("x", "x", "expression"),
            AnswerPair("2, 1/2", "0.5, 2", "set"),
            AnswerPair("B", "(b)", "choice"),
            AnswerPair("7 apples", "7", "number"),
            AnswerPair("Yes, it is", "yes", "yes_no"),
            AnswerPair("104", "100", "relaxed"),
        ]
        assert verifier.grade(pairs) == [RIGHT] * len(pairs)
        assert [worker.starts for worker in verifier._workers] == [0, 0]


def test_hung_answer_is_wrong_and_the_others_are_graded(impatient):
    pairs = [AnswerPair("3x", SUM, "expression"), ENDLESS, AnswerPair("2x", SUM, "expression")]
    impatient.grade(pairs[:1])
    timeouts, start = impatient.timeouts, time.monotonic()
    assert impatient.grade(pairs + pairs) == [RIGHT, HUNG, WRONG] * 2
    # Equal pairs are graded once.
    assert impatient.timeouts == timeouts + 1 and impatient.restarts >= 1
    assert 4 <= time.monotonic() - start < 100
    assert impatient.grade(pairs[:1] * 2 + pairs[2:]) == [RIGHT, RIGHT, WRONG]
    assert impatient.grade([AnswerPair(f"{n}x+1", SUM, "expression") for n in range(20)]) == [WRONG] * 20
    assert impatient.timeouts == timeouts + 1


def give_up_on(pool, monkeypatch, *responses):
    """Let the checks of these responses time out at once; return the list of all responses that are checked."""
    worker, checked = pool._workers[0], []
    check = worker.check

    def check_or_give_up(pair):
        checked.append(pair.response)
        return None if pair.response in responses else check(pair)

    monkeypatch.setattr(worker, "check", check_or_give_up)
    return checked


def test_reference_is_checked_once_and_only_after_a_time_out(pool, monkeypatch):
    checked, timeouts = give_up_on(pool, monkeypatch, "x-x", "x-2x"), pool.timeouts
    pairs = [AnswerPair(response, SUM, "expression") for response in ("x+2x", "x-x", "x-2x")]
    assert pool.grade(pairs[:1]) == [RIGHT] and checked == ["x+2x"]
    assert pool.grade(pairs) == [RIGHT, HUNG, HUNG]
    assert pool.grade(pairs[1:]) == [HUNG, HUNG]
    assert checked.count(None) == 1 and pool.timeouts == timeouts + 4


def test_answer_is_undecided_if_its_reference_runs_out_of_time_as_well(pool, monkeypatch):
    checked, timeouts = give_up_on(pool, monkeypatch, "z-x", None), pool.timeouts
    reference = SUM.replace("x", "z")
    pairs = [AnswerPair(response, reference, "expression") for response in ("3z", "z-x", "z-x ")]
    assert pool.grade(pairs) == [RIGHT, Grade(None, timed_out=True), WRONG]
    assert pool.grade(pairs[1:2]) == [Grade(None, timed_out=True)]
    assert checked.count(None) == 1 and pool.timeouts == timeouts + 2
    # The kind is part of what is checked.
    monkeypatch.undo()
    give_up_on(pool, monkeypatch, "z-x")
    assert pool.grade([AnswerPair("z-x", reference, "set")]) == [HUNG]


@pytest.mark.parametrize(
    "kind, reference, parsed",
    [
        ("expression", r"\text{ $x+1$ }", ["x+1"]),
        ("set", r"\{x+1, 2\}", ["x+1", "2"]),
    ],
)
def test_check_of_a_reference_parses_all_of_it(monkeypatch, kind, reference, parsed):
    """The comparison of equal texts would parse nothing, so that no reference ever ran out of time."""
    found = []
    monkeypatch.setattr(checks, "is_equal_by_algebra", lambda *texts: found.append(texts))
    assert checks.REFERENCE_CHECKS[kind](reference) is True
    assert found == [(text, text) for text in parsed]


def test_reference_of_a_task_solves_it():
    assert checks.is_own_solution("reasoning_gym:chain_sum:1:1000:3") is True
    assert "no_task" in checks.is_own_solution("reasoning_gym:no_task:1:10:3")


def test_dead_worker_is_replaced(pool):
    pair = AnswerPair("3x", SUM, "expression")
    pool.grade([pair])
    restarts = pool.restarts
    pool._workers[0]._process.kill()
    assert pool.grade([pair]) == [RIGHT]
    assert pool.restarts == restarts + 1


def test_worker_killed_during_start_is_replaced(monkeypatch):
    pair, killed = AnswerPair("3x", SUM, "expression"), iter(range(10))
    with Verifier(workers=1) as verifier:
        worker = verifier._workers[0]
        start = worker._start

        def start_and_kill(stderr):
            process = start(stderr)
            if next(killed) < limit:
                process.kill()
            return process

        monkeypatch.setattr(worker, "_start", start_and_kill)
        limit = 2
        assert verifier.grade([pair]) == [RIGHT] and verifier.restarts == 2
        worker.discard_process()
        limit = 10
        error = "no verifier worker can be started for expression: 5 were killed by signal 9"
        with pytest.raises(RuntimeError, match=error):
            verifier.grade([pair])


@pytest.mark.parametrize("last, limit, grade", [(3, 2, HUNG), (4, 4, Grade(None, timed_out=True))])
def test_answer_that_kills_its_worker_twice_counts_as_a_time_out(pool, monkeypatch, last, limit, grade):
    pair, killed = AnswerPair(f"{last}x+0", SUM.replace("3", str(last)), "expression"), iter(range(10))
    pool.grade([pair])
    restarts, timeouts = pool.restarts, pool.timeouts
    worker = pool._workers[0]
    ensure_prepared = worker._ensure_prepared

    def prepare_and_kill(kind):
        process = ensure_prepared(kind)
        if next(killed) < limit:
            process.kill()
        return process

    monkeypatch.setattr(worker, "_ensure_prepared", prepare_and_kill)
    assert pool.grade([pair]) == [grade]
    monkeypatch.undo()
    assert pool.grade([pair]) == [RIGHT]
    assert (pool.restarts, pool.timeouts) == (restarts + limit, timeouts + 1)


@pytest.mark.parametrize(
    "module, content, reason",
    [
        ("mig_jax.py", "raise RuntimeError('this package is broken')", "RuntimeError: this package is broken"),
        (
            "latex2sympy2_extended.py",
            "raise ImportError('this library is missing')",
            "for expression: this library is missing",
        ),
    ],
)
def test_worker_that_cannot_start_reports_why(monkeypatch, tmp_path, module, content, reason):
    # The working directory comes first on the import path.
    (tmp_path / module).write_text(content)
    monkeypatch.chdir(tmp_path)
    with (
        Verifier(workers=1) as broken,
        pytest.raises(RuntimeError, match=f"(?s)no verifier worker can be started.*{reason}"),
    ):
        broken.grade([AnswerPair("3x", SUM, "expression")])


def test_worker_without_parent_ends_itself():
    command = [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for pair in (AnswerPair(None, "", "expression"), AnswerPair(None, "x+1", "expression"), ENDLESS):
            process.stdin.write(json.dumps(pair).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.read() == b"true\ntrue\n"
        assert process.wait(timeout=60) == -signal.SIGALRM


def test_worker_ends_with_its_input_and_prints_only_grades():
    lines = [json.dumps([None, "", "expression", []]), json.dumps(["1+x", "x+1", "expression", []])]
    done = subprocess.run(
        [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", "9"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("true\ntrue\n", 0)


def test_close_ends_a_hung_grading():
    pool = Verifier(workers=1, deadline_s=60.0)
    pool.grade([AnswerPair("3x", SUM, "expression")])
    future = pool._threads.submit(pool._check_with_worker, ENDLESS)
    while pool._idle.qsize():
        time.sleep(0.01)
    process = pool._workers[0]._process
    pool.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="the verifier is closed"):
        future.result()
