"""Writers of metrics: a user's own in a thread, slow, broken or hanging; wandb without a network."""

import importlib.util
import json
import time

import pytest
from absl import logging

from mig_jax.errors import UserError
from mig_jax.records import metrics, writers

OWN = """
import time

class Rows:
    def __init__(self, workdir, config, resume_step):
        self.file = open(f"{workdir}/rows.txt", "a")
        print(config["steps"], resume_step, file=self.file)

    def write(self, step, row):
        print(step, row, file=self.file)

    def close(self):
        print("closed", file=self.file)
        self.file.close()

class Broken(Rows):
    def write(self, step, row):
        raise ConnectionError("no network")

class Hanging(Rows):
    def write(self, step, row):
        time.sleep(60)

def refuses(workdir, config, resume_step):
    raise ValueError("no key")

def writes_nothing(workdir, config, resume_step):
    return workdir
"""


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda text, *values, **options: found.append(text % values))
    return found


def write(tmp_path, name, *, n=3, resume_step=None):
    (tmp_path / "mine.py").write_text(OWN)
    config = {"steps": 9, "log": {"writers": [f"{tmp_path}/mine.py:{name}"]}}
    with metrics.open_metrics(str(tmp_path), config=config, resume_step=resume_step) as file:
        for step in range(n):
            file.write(step, {"reward/accuracy": step / 2})
    return (tmp_path / "rows.txt").read_text().splitlines()


def test_a_users_writer_gets_all_rows(tmp_path):
    assert write(tmp_path, "Rows") == [
        "9 None", "0 {'reward/accuracy': 0.0}", "1 {'reward/accuracy': 0.5}", "2 {'reward/accuracy': 1.0}", "closed",
    ]  # fmt: skip
    assert write(tmp_path, "Rows", n=0, resume_step=3)[-2] == "9 3"
    assert not (tmp_path / "tensorboard").exists()


def test_a_broken_writer_does_not_end_the_run(tmp_path, warnings):
    assert write(tmp_path, "Broken") == ["9 None", "closed"]
    assert len(metrics.read_metrics(str(tmp_path))[1]) == 3
    (warning,) = warnings
    assert "Broken failed and gets no further rows" in warning and "mine.py:18: ConnectionError: no network" in warning


def test_a_hanging_writer_does_not_stop_the_run(tmp_path, warnings, monkeypatch):
    monkeypatch.setattr(writers, "CLOSE_S", 0.2)
    monkeypatch.setattr(writers, "MAX_WAITING", 2)
    start = time.monotonic()
    write(tmp_path, "Hanging", n=5)
    assert time.monotonic() - start < 10 and len(metrics.read_metrics(str(tmp_path))[1]) == 5
    assert "is too slow" in warnings[0] and "does not end" in warnings[1]


@pytest.mark.parametrize(
    "name, match",
    [
        ("refuses", r"log.writers='.*mine.py:refuses' cannot be opened: .*mine.py:25: ValueError: no key"),
        ("writes_nothing", r"gives a str without a method write\(step, row\)"),
    ],
)
def test_a_writer_that_cannot_be_opened_is_named(tmp_path, name, match):
    with pytest.raises(UserError, match=match):
        write(tmp_path, name)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert writers.missing_packages(("tensorboard", "wandb")) == [
        "log.writers='wandb': not installed. Run: pip install wandb"
    ]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is not installed")
def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = {"steps": 9, "log": {"writers": ["wandb"], "wandb_project": "test"}}
    for resume_step in (None, 2):
        with metrics.open_metrics(str(tmp_path), config=config, resume_step=resume_step) as file:
            file.write(resume_step or 0, {"reward/accuracy": 0.5})
    runs = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    (run_id,) = {path.stem.removeprefix("run-") for path in runs}
    assert run_id == (tmp_path / "wandb_id").read_text() and len(runs) == 2
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])["step"] == 0
