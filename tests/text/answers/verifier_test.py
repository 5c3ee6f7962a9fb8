"""Right and wrong answers, and workers that hang, die or are lied to."""

import json
import signal
import subprocess
import sys
import time

import pytest

from mig_jax.text.answers import verifier_worker
from mig_jax.text.answers.compare import answer_variants
from mig_jax.text.answers.verifier import AnswerPair, Verifier
from tests.text.answers.compare_test import VARIANTS

# Takes longer than anybody waits.
ENDLESS = AnswerPair("$9^{9^{9}}$", "7", "expression")


@pytest.fixture(scope="module")
def pool():
    with Verifier(workers=1, deadline_s=20.0) as pool:
        yield pool


@pytest.fixture(scope="module")
def hasty():
    with Verifier(workers=2, deadline_s=1.5) as pool:
        yield pool


def test_every_variant_is_right_to_algebra(pool):
    """Not only for our own short cuts, where algebra can read it."""
    pairs = [
        (variant, reference)
        for reference in VARIANTS
        for variant in answer_variants(reference, kind="expression", limit=8)
    ]
    readable = [pair for pair in pairs if not {"%", ",", "P"} & set("".join(pair))]
    assert len(readable) > 40
    assert [pair for pair in readable if not verifier_worker.is_equal(*pair)] == []


def test_kinds(pool):
    chain_sum = "reasoning_gym:chain_sum:1:1000:3"
    items = [
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
    assert pool.grade(items) == [True, False, True, True, False, True, False, True, False, False, False, True]
    assert pool.grade([]) == []
    with pytest.raises(ValueError, match="no kind maths; there are number, expression, "):
        pool.grade([AnswerPair("4", "4", "maths")])
    with pytest.raises(ValueError, match="'reasoning_gym:no_task:1:10:3': ValueError: Dataset"):
        pool.grade([AnswerPair("4", "reasoning_gym:no_task:1:10:3", "reasoning_gym")])


def test_what_is_plain_needs_no_worker():
    with Verifier() as idle:
        items = [
            AnswerPair("0.5", "1/2", "expression"),
            AnswerPair("x", "x", "expression"),
            AnswerPair("2, 1/2", "0.5, 2", "set"),
            AnswerPair("B", "(b)", "choice"),
            AnswerPair("7 apples", "7", "number"),
            AnswerPair("Yes, it is", "yes", "yes_no"),
            AnswerPair("104", "100", "relaxed"),
        ]
        assert idle.grade(items) == [True] * len(items)
        assert [slot.starts for slot in idle._workers] == [0, 0]


def test_a_hung_item_is_given_up_and_the_others_are_answered(hasty):
    items = [AnswerPair("1+x", "x+1", "expression"), ENDLESS, AnswerPair("2+x", "x+1", "expression")]
    hasty.grade(items[:1])
    timeouts, restarts, start = hasty.timeouts, hasty.restarts, time.monotonic()
    assert hasty.grade(items + items) == [True, None, False] * 2
    # The same item twice is one check.
    assert (hasty.timeouts, hasty.restarts) == (timeouts + 1, restarts)
    assert 1.5 <= time.monotonic() - start < 15
    assert hasty.grade(items[:1] * 2 + items[2:]) == [True, True, False]
    hasty.grade([AnswerPair(f"{n}x+1", "x", "expression") for n in range(20)])
    assert (hasty.timeouts, hasty.restarts) == (timeouts + 1, restarts + 1)


def test_a_dead_worker_is_replaced(pool):
    item = AnswerPair("1+x", "x+1", "expression")
    pool.grade([item])
    restarts = pool.restarts
    pool._workers[0]._process.kill()
    assert pool.grade([item]) == [True]
    assert (pool.restarts, pool.timeouts) == (restarts + 1, 0)


def test_a_worker_that_is_killed_while_it_starts_is_replaced(monkeypatch):
    item, killed = AnswerPair("1+x", "x+1", "expression"), iter(range(10))
    with Verifier(workers=1) as young:
        slot = young._workers[0]
        start = slot._start

        def start_and_kill(errors):
            start(errors)
            if next(killed) < limit:
                slot._process.kill()

        monkeypatch.setattr(slot, "_start", start_and_kill)
        limit = 2
        assert young.grade([item]) == [True] and young.restarts == 2
        slot.clean_up()
        limit = 10
        with pytest.raises(RuntimeError, match="no worker can be started for expression: 5 were killed by signal 9"):
            young.grade([item])


def test_an_item_that_kills_twice_is_given_up(pool, monkeypatch):
    item, restarts = AnswerPair("1+x", "x+1", "expression"), pool.restarts
    slot = pool._workers[0]
    prepare = slot._prepare

    def prepare_and_kill(kind):
        prepare(kind)
        slot._process.kill()

    monkeypatch.setattr(slot, "_prepare", prepare_and_kill)
    assert pool.grade([item]) == [None]
    monkeypatch.undo()
    assert pool.grade([item]) == [True]
    assert (pool.restarts, pool.timeouts) == (restarts + 2, 0)


@pytest.mark.parametrize(
    "module, content, reason",
    [
        ("mig_jax.py", "raise RuntimeError('this package is broken')", "RuntimeError: this package is broken"),
        ("math_verify.py", "raise ImportError('this library is missing')", "for expression: this library is missing"),
    ],
)
def test_a_worker_that_does_not_start_says_why(monkeypatch, tmp_path, module, content, reason):
    # What lies in the working directory is imported first.
    (tmp_path / module).write_text(content)
    monkeypatch.chdir(tmp_path)
    with Verifier(workers=1) as broken, pytest.raises(RuntimeError, match=f"(?s)no worker can be started.*{reason}"):
        broken.grade([AnswerPair("1+x", "x+1", "expression")])


def test_a_worker_without_parent_ends_itself():
    command = [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for item in (AnswerPair(None, "", "expression"), ENDLESS):
            process.stdin.write(json.dumps(item[:3]).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.read() == b"true\n"
        assert process.wait(timeout=10) == -signal.SIGALRM


def test_a_worker_ends_with_its_input_and_prints_nothing_else():
    lines = [json.dumps([None, "", "expression"]), json.dumps(["1+x", "x+1", "expression"])]
    done = subprocess.run(
        [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", "9"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("true\ntrue\n", 0)


def test_closing_ends_a_check_that_hangs():
    pool = Verifier(workers=1, deadline_s=60.0)
    pool.grade([AnswerPair("1+x", "x+1", "expression")])
    future = pool._threads.submit(pool._ask, ENDLESS)
    while pool._idle.qsize():
        time.sleep(0.01)
    process = pool._workers[0]._process
    pool.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="the verifier is closed"):
        future.result()
