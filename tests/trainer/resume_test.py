"""A run that is killed and resumed equals one that was never killed, bit for bit."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mig_jax.records import metrics

ROOT = Path(__file__).parents[2]
# Metrics that are no measurement of time.
TIMELESS = (
    "loss/", "reward/", "policy/", "ratio/", "gradient/", "eval/", "ell/", "advantage/", "rollout/", "kl/", "sft/",
    "verifier/",
)  # fmt: skip


def timeless(rows):
    return [{k: v for k, v in row.items() if k == "step" or k.startswith(TIMELESS)} for row in rows]


CONFIG_FILE = """
from tests import tiny


def get_config():
    c = tiny.get_quickstart(steps=10, checkpoint__every=2, log__every={log_every}, optimizer__updates_per_rollout=2)
    c.optimizer.state_dtype = "{state_dtype}"
    c.rollout.questions, c.data.train_size = 4, 12  # an epoch ends every three steps
    return c
"""


def start(workdir, tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mig_jax.main", "train", f"--config={tmp_path}/config.py", f"--workdir={workdir}"]
    with open(f"{workdir}.log", "ab") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=ROOT)


def kill_after(process, log, n_rows):
    """Kill a run some time after it has printed `n_rows` rows of metrics."""
    already = log.stat().st_size if log.exists() else 0
    while process.poll() is None and len(re.findall(rb"step +[0-9]+ ", log.read_bytes()[already:])) < n_rows:
        time.sleep(0.02)
    time.sleep(random.random() / 2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


@pytest.mark.slow  # several processes; faults_test stops and resumes in one
@pytest.mark.parametrize(
    "after, log_every, state_dtype", [((2,), 3, ""), ((4, 2), 1, "bfloat16")], ids=["once", "twice"]
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, after, log_every, state_dtype):
    """Killed at random moments, after the first checkpoint and after a later one; also between two rows of metrics."""
    (tmp_path / "config.py").write_text(CONFIG_FILE.format(state_dtype=state_dtype, log_every=log_every))
    whole = start(tmp_path / "whole", tmp_path)
    assert whole.wait() == 0, (tmp_path / "whole.log").read_text()
    log = tmp_path / "killed.log"
    for n_rows in after:
        kill_after(start(tmp_path / "killed", tmp_path), log, n_rows)
    process = start(tmp_path / "killed", tmp_path)
    assert process.wait() == 0, log.read_text()
    assert log.read_text().count("resuming in") == len(after)
    expected, found = (timeless(metrics.read_metrics(str(tmp_path / name))[1]) for name in ("whole", "killed"))
    assert json.dumps(expected) == json.dumps(found)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
