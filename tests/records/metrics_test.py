"""The record of a run survives kills, resumes exactly, and reads back what was written."""

import contextlib
import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from mig_jax.records import metrics

CONFIG = {"steps": 6, "model": {"path": "", "lr": 2e-4}}


def _run(workdir, steps, *, resume_step=None) -> None:
    with metrics.open_metrics(str(workdir), config=CONFIG, resume_step=resume_step) as sinks:
        for step in steps:
            sinks.write(step, {"reward/accuracy": step / 7, "time/seconds": 1.5})


def test_rows_read_back_whatever_kind_of_number_they_were(tmp_path):
    values = {"a": 0.1, "b": np.float32(0.5), "c": jnp.asarray(2), "d": True, "e": math.inf, "f": -math.inf}
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as sinks:
        sinks.write(3, values | {"g": math.nan})
    config, [row] = metrics.read_metrics(str(tmp_path))
    assert config == CONFIG
    assert math.isnan(row.pop("g"))
    assert row == {"step": 3, "a": 0.1, "b": 0.5, "c": 2, "d": 1, "e": math.inf, "f": -math.inf}


def test_every_line_is_strict_json(tmp_path):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as sinks:
        sinks.write(0, {"loss": math.nan})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0], parse_constant=refuse) == {"config": CONFIG}
    assert json.loads(lines[1], parse_constant=refuse) == {"step": 0, "loss": "nan"}


def test_a_row_is_written_before_the_next_step(tmp_path):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as sinks:
        sinks.write(0, {"a": 1.0, "b": 2.0})
        assert len(metrics.read_metrics(str(tmp_path))[1]) == 1
        (path,) = (tmp_path / "tensorboard").iterdir()
        assert [v.tag for v in _read_events(path)[-1].summary.value] == ["a", "b"], "one record, so that none is torn"


@pytest.mark.parametrize("sink", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_met_where_the_row_is_written(tmp_path, sink):
    """Not in a thread that dies of it, behind which the run would wait for ever."""
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as sinks:
        with _full_disk(_descriptor_of(tmp_path, sink)), pytest.raises(OSError) as met:
            sinks.write(0, {"a": 1.0})
    assert met.value.errno == errno.ENOSPC


@contextlib.contextmanager
def _full_disk(descriptor):
    """What is written to an open file meets a full disk."""
    before = os.dup(descriptor)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), descriptor)
    yield
    os.dup2(before, descriptor)
    os.close(before)


def _descriptor_of(workdir, sink):
    """The one under which this process has the file of a sink open."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(workdir / sink)):
                return int(number)
    raise AssertionError(f"{sink} is not open")


@pytest.mark.parametrize("torn", ["", '{"step": 5, "reward/acc', '{"step": 5, "reward/accuracy": 0.7}'])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, torn):
    _run(tmp_path / "whole", range(6))
    _run(tmp_path / "killed", range(5))
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert len(metrics.read_metrics(str(tmp_path / "killed"))[1]) == 5
    _run(tmp_path / "killed", range(3, 6), resume_step=3)
    read = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "killed")]
    assert read[0] == read[1]
    assert not list(tmp_path.glob("*/*.tmp"))


def test_without_a_resume_step_the_record_begins_anew(tmp_path):
    _run(tmp_path, range(3))
    _run(tmp_path, range(1))
    assert [row["step"] for row in metrics.read_metrics(str(tmp_path))[1]] == [0]


def test_broken_records_are_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"config": {}}\n{"step": 0, "a\n{"step": 1}\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        metrics.read_metrics(str(path))
    path.write_text('{"step": 0}\n')
    with pytest.raises(ValueError, match="does not begin with a config"):
        metrics.read_metrics(str(path))


@pytest.mark.parametrize("values", [{"a": np.zeros(2)}, {"a": [1.0]}, {"step": 1}])
def test_only_single_numbers_are_taken(tmp_path, values):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as sinks:
        with pytest.raises(ValueError, match="single number"):
            sinks.write(0, values)
    assert metrics.read_metrics(str(tmp_path))[1] == []


def test_terminal_line(tmp_path, capsys):
    _run(tmp_path, [2])
    assert capsys.readouterr().out == "step     2  accuracy 0.286  seconds 1.5\n"
    assert metrics.headline(7, {"my/number": 0.12345}) == "step     7  my/number 0.123"


def _read_events(path) -> list[Event]:
    """The records of an event file: 8 bytes length, 4 bytes checksum, the event, 4 bytes checksum."""
    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_tensorboard_gets_every_number_and_a_resume_purges_what_comes_again(tmp_path):
    _run(tmp_path, range(3))
    _run(tmp_path, range(2, 4), resume_step=2)
    first, second = (_read_events(path) for path in sorted((tmp_path / "tensorboard").iterdir()))
    points = [(e.step, v.tag) for e in first + second for v in e.summary.value]
    assert sorted(points) == sorted((s, t) for s in (0, 1, 2, 2, 3) for t in ("reward/accuracy", "time/seconds"))
    assert [e.step for e in second if e.HasField("session_log")] == [2]


def test_column_skips_rows_without_the_name():
    rows = [{"step": 0, "a": 1.0}, {"step": 1, "b": 2.0}, {"step": 2, "a": 3.0}]
    steps, values = metrics.column(rows, "a")
    assert steps.tolist() == [0, 2] and values.tolist() == [1, 3]
    assert [x.size for x in metrics.column(rows, "none")] == [0, 0]
