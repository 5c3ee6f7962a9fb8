"""Grading by worker processes that hang, die or fail to start."""

import json
import signal
import subprocess
import sys
import time

import pytest

from mig_jax.errors import UserError
from mig_jax.text.answers import verifier_worker
from mig_jax.text.answers.compare import answer_variants
from mig_jax.text.answers.verifier import AnswerPair, Verifier
from tests.text.answers.compare_test import VARIANTS

# Takes forever to grade.
ENDLESS = AnswerPair("$9^{9^{9}}$", "7", "expression")


@pytest.fixture(scope="module")
def pool():
    with Verifier(workers=1, deadline_s=20.0) as pool:
        yield pool


@pytest.fixture(scope="module")
def impatient():
    with Verifier(workers=2, deadline_s=1.5) as pool:
        yield pool


def test_math_verify_agrees_with_every_variant(pool):
    """Check the variants that math-verify can parse, not only by our comparison without algebra."""
    pairs = [
        (variant, reference)
        for reference in VARIANTS
        for variant in answer_variants(reference, kind="expression", limit=8)
    ]
    parsable = [pair for pair in pairs if not {"%", ",", "P"} & set("".join(pair))]
    assert len(parsable) > 40
    assert [pair for pair in parsable if not verifier_worker.is_equal(*pair)] == []


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
    assert pool.grade(pairs) == [True, False, True, True, False, True, False, True, False, False, False, True]
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
        assert verifier.grade(pairs) == [True] * len(pairs)
        assert [worker.starts for worker in verifier._workers] == [0, 0]


def test_hung_answer_is_given_up_and_the_others_are_graded(impatient):
    pairs = [AnswerPair("1+x", "x+1", "expression"), ENDLESS, AnswerPair("2+x", "x+1", "expression")]
    impatient.grade(pairs[:1])
    timeouts, restarts, start = impatient.timeouts, impatient.restarts, time.monotonic()
    assert impatient.grade(pairs + pairs) == [True, None, False] * 2
    # Equal pairs are graded once.
    assert (impatient.timeouts, impatient.restarts) == (timeouts + 1, restarts)
    assert 1.5 <= time.monotonic() - start < 15
    assert impatient.grade(pairs[:1] * 2 + pairs[2:]) == [True, True, False]
    impatient.grade([AnswerPair(f"{n}x+1", "x", "expression") for n in range(20)])
    assert (impatient.timeouts, impatient.restarts) == (timeouts + 1, restarts + 1)


def test_dead_worker_is_replaced(pool):
    pair = AnswerPair("1+x", "x+1", "expression")
    pool.grade([pair])
    restarts = pool.restarts
    pool._workers[0]._process.kill()
    assert pool.grade([pair]) == [True]
    assert (pool.restarts, pool.timeouts) == (restarts + 1, 0)


def test_worker_killed_during_start_is_replaced(monkeypatch):
    pair, killed = AnswerPair("1+x", "x+1", "expression"), iter(range(10))
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
        assert verifier.grade([pair]) == [True] and verifier.restarts == 2
        worker.discard_process()
        limit = 10
        error = "no verifier worker can be started for expression: 5 were killed by signal 9"
        with pytest.raises(RuntimeError, match=error):
            verifier.grade([pair])


def test_answer_that_kills_its_worker_twice_is_given_up(pool, monkeypatch):
    pair, restarts = AnswerPair("1+x", "x+1", "expression"), pool.restarts
    worker = pool._workers[0]
    ensure_prepared = worker._ensure_prepared

    def prepare_and_kill(kind):
        process = ensure_prepared(kind)
        process.kill()
        return process

    monkeypatch.setattr(worker, "_ensure_prepared", prepare_and_kill)
    assert pool.grade([pair]) == [None]
    monkeypatch.undo()
    assert pool.grade([pair]) == [True]
    assert (pool.restarts, pool.timeouts) == (restarts + 2, 0)


@pytest.mark.parametrize(
    "module, content, reason",
    [
        ("mig_jax.py", "raise RuntimeError('this package is broken')", "RuntimeError: this package is broken"),
        ("math_verify.py", "raise ImportError('this library is missing')", "for expression: this library is missing"),
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
        broken.grade([AnswerPair("1+x", "x+1", "expression")])


def test_worker_without_parent_ends_itself():
    command = [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for pair in (AnswerPair(None, "", "expression"), ENDLESS):
            process.stdin.write(json.dumps(pair[:3]).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.read() == b"true\n"
        assert process.wait(timeout=10) == -signal.SIGALRM


def test_worker_ends_with_its_input_and_prints_only_grades():
    lines = [json.dumps([None, "", "expression"]), json.dumps(["1+x", "x+1", "expression"])]
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
    pool.grade([AnswerPair("1+x", "x+1", "expression")])
    future = pool._threads.submit(pool._grade_with_worker, ENDLESS)
    while pool._idle.qsize():
        time.sleep(0.01)
    process = pool._workers[0]._process
    pool.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="the verifier is closed"):
        future.result()
