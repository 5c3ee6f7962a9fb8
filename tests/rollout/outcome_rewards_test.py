"""Users' rewards in processes of their own: what they give, raise, return wrongly, and whether they can be ended."""

import contextlib
import http.server
import json
import threading
import time

import numpy as np
import pytest
from absl import logging

from mig_jax.errors import UserError
from mig_jax.rollout import outcome_rewards
from mig_jax.rollout.outcome_rewards import OutcomeRewards
from tests import tiny
from tests.rollout.outcomes_test import make_sample

OWN = """
import os, re, subprocess, sys, time
from mig_jax.rollout.outcomes import batch_reward

def shortness(sample):
    return -sample.n_tokens / 10

def only_long(sample):
    print("printed by a reward")
    return 1 if sample.n_tokens > 2 else None

def fails_on_one(sample):
    if sample.n_tokens == 1:
        raise KeyError("tests")
    return {2: float("nan"), 3: "3 points"}.get(sample.n_tokens, 1.0)

def fails(sample):
    return sample.row["tests"]

def crashes_on_one(sample):
    if sample.n_tokens == 1:
        os._exit(3)
    return 1.0

def hangs_on_one(sample):
    if sample.n_tokens == 1:
        re.match("(a+)+$", "a" * 40 + "b")  # holds the interpreter's lock
    return 1.0

def hangs_in_a_child(sample):
    if sample.n_tokens == 1:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with open(__file__ + ".pid", "w") as file:
            file.write(str(child.pid))
        child.wait()
    return 1.0

def hangs(sample):
    time.sleep(60)

@batch_reward(deadline_s=30, size=5)
def size_of_the_call(samples):
    return [len(samples)] * len(samples)

@batch_reward(deadline_s=30)
def one_too_few(samples):
    return [1.0] * (len(samples) - 1 if len(samples) > 2 else len(samples))

@batch_reward(deadline_s=0.5, size=4)
def hangs_for_a_batch(samples):
    time.sleep(60 if samples[0].n_tokens == 1 else 0)
    return [1.0] * len(samples)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A user's file; returns the name of a reward in it."""
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(OWN)
    return lambda name: f"{file}:{name}"


def earn(outcomes, *, n=4, group_size=2, **args):
    config = tiny.get_config(reward__outcomes=outcomes)
    config.reward.outcome_args.update({"workers": 1, "deadline_s": 30.0} | args)
    with OutcomeRewards(config) as rewards:
        return rewards([make_sample(ids=range(k + 1)) for k in range(n)], group_size=group_size)


def test_rewards_are_weighted_and_added(own):
    earned = earn({"accuracy": 1.0, own("shortness"): 0.5, own("only_long"): 2.0})
    np.testing.assert_array_equal(earned.is_valid_b, [False, False, True, True])
    np.testing.assert_allclose(earned.reward_b, [0, 0, 1 - 0.15 + 2, 1 - 0.2 + 2], rtol=1e-6)
    assert earned.reward_b.dtype == np.float32
    assert earned.of_row(0) == {"accuracy": 1, "shortness": pytest.approx(-0.1), "only_long": None}
    m = earned.metrics
    assert m["reward/shortness"] == pytest.approx(-0.25) and m["reward/shortness_std"] == pytest.approx(1.25**0.5 / 10)
    assert m["reward/only_long"] == 1 and m["reward/only_long_failed"] == 0 and m["reward/only_long_seconds"] > 0
    assert not any(name.startswith(("reward/accuracy", "reward/format")) for name in m)


def test_a_reward_without_weight_is_only_looked_at(own):
    earned = earn({"accuracy": 1.0, own("only_long"): 0.0})
    np.testing.assert_array_equal(earned.reward_b, [1, 1, 1, 1])
    assert earned.is_valid_b.all() and earned.metrics["reward/only_long"] == 1


def test_errors_leave_responses_out_and_are_counted(own, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warnings.append(text % values))
    earned = earn({own("fails_on_one"): 1.0})
    np.testing.assert_array_equal(earned.is_valid_b, [False, False, False, True])
    assert earned.metrics["reward/fails_on_one_failed"] == 3
    (warning,) = warnings
    assert "mine.py:14: KeyError: 'tests'" in warning and "Traceback" in warning


def test_a_reward_that_always_fails_ends_the_run(own):
    with pytest.raises(
        UserError, match=r"fails' failed for all 4 responses of a step: .*mine.py:18: KeyError: 'tests'"
    ):
        earn({"accuracy": 1.0, own("fails"): 1.0})


@pytest.mark.parametrize("name", ["crashes_on_one", "hangs_on_one"])
def test_a_reward_that_hangs_or_crashes_is_replaced(own, name):
    start = time.monotonic()
    earned = earn({own(name): 1.0}, deadline_s=0.5)
    np.testing.assert_array_equal(earned.is_valid_b, [False, True, True, True])
    assert earned.metrics[f"reward/{name}_failed"] == 1 and time.monotonic() - start < 30


def test_children_of_a_late_reward_are_ended(own):
    earn({own("hangs_in_a_child"): 1.0}, n=2, deadline_s=1.0)
    with open(own("x").removesuffix(":x") + ".pid") as file:
        pid = int(file.read())
    for _ in range(100):
        try:
            # A child that is ended but not yet collected by init is a zombie.
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split()[2] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} still runs")


def test_after_some_late_calls_the_others_are_not_tried(own, monkeypatch):
    monkeypatch.setattr(outcome_rewards, "MAX_LATE", 2)
    start = time.monotonic()
    with pytest.raises(UserError, match="failed for all 64 responses of a step: no reply within 0.3 seconds"):
        earn({own("hangs"): 1.0}, n=64, deadline_s=0.3)
    assert time.monotonic() - start < 30


def test_batches_keep_groups_together(own):
    earned = earn({own("size_of_the_call"): 1.0}, n=8)
    np.testing.assert_array_equal(earned.reward_b, [4] * 8)
    np.testing.assert_array_equal(earn({own("size_of_the_call"): 1.0}, n=12, group_size=6).reward_b, [6] * 12)


def test_a_late_batch_is_left_out(own):
    np.testing.assert_array_equal(earn({own("hangs_for_a_batch"): 1.0}, n=8).is_valid_b, [False] * 4 + [True] * 4)


def test_a_batch_reward_gives_one_number_for_each(own):
    with pytest.raises(UserError, match="3 rewards for 4 samples"):
        earn({own("one_too_few"): 1.0})


def test_a_file_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    with pytest.raises(UserError, match="broken.py:1: ModuleNotFoundError"):
        earn({f"{tmp_path}/broken.py:f": 1.0})


def test_the_examples(monkeypatch):
    """A length penalty, code that is run, and a judge behind HTTP."""
    code = "<think>\n### Step 1: a\n</think>\n```python\ndef add(a, b):\n    return a {} b\n```"
    row = {"tests": "assert add(1, 2) == 3"}
    texts = [code.format("+"), code.format("-"), "no code", "```\nno Python\n```"]
    samples = [make_sample(text, row=row, ids=range(5)) for text in texts]
    with _judge() as url:
        monkeypatch.setenv("JUDGE_URL", url)
        names = ("shortness", "passes_tests", "judged")
        config = tiny.get_config(reward__outcomes={f"examples/own_rewards.py:{name}": 1.0 for name in names})
        with OutcomeRewards(config) as rewards:
            earned = rewards(samples, group_size=4)
    assert earned.metrics["reward/passes_tests"] == 0.25 and earned.metrics["reward/judged"] == 0.7
    np.testing.assert_allclose(earned.reward_b, np.array([1, 0, 0, 0]) + 0.5 + 0.7, rtol=1e-6)


@pytest.mark.slow
def test_the_example_that_runs_code_has_a_time_limit():
    config = tiny.get_config(reward__outcomes={"examples/own_rewards.py:passes_tests": 1.0})
    samples = [make_sample("```\nwhile True: pass\n```", row={"tests": ""})]
    with OutcomeRewards(config) as rewards:
        assert rewards(samples, group_size=1).reward_b == 0


class _Judge(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "What is 1 + 1?" in asked["messages"][0]["content"]
        reply = json.dumps({"choices": [{"message": {"content": "Grade: 7 of 10"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def _judge():
    """Serve a judge on this machine; yields its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()
