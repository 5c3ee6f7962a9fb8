"""The metrics of a run: round trips, kills, exact resumes, and full disks."""

import contextlib
import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from mig_jax.errors import UserError
from mig_jax.records import metrics

CONFIG = {"steps": 6, "model": {"path": "", "lr": 2e-4}, "log": {"writers": ["tensorboard"]}}


def _run(workdir, steps, *, resume_step=None) -> None:
    with metrics.open_metrics(str(workdir), config=CONFIG, resume_step=resume_step) as writer:
        for step in steps:
            writer.write(step, {"reward/accuracy": step / 7, "time/seconds": 1.5})


def test_round_trip_of_all_number_types(tmp_path):
    values = {"a": 0.1, "b": np.float32(0.5), "c": jnp.asarray(2), "d": True, "e": math.inf, "f": -math.inf}
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as writer:
        writer.write(3, values | {"g": math.nan})
    config, [row] = metrics.read_metrics(str(tmp_path))
    assert config == CONFIG
    assert math.isnan(row.pop("g"))
    assert row == {"step": 3, "a": 0.1, "b": 0.5, "c": 2, "d": 1, "e": math.inf, "f": -math.inf}


def test_every_line_is_strict_json(tmp_path):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as writer:
        writer.write(0, {"loss": math.nan})

    def fail(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0], parse_constant=fail) == {"config": CONFIG}
    assert json.loads(lines[1], parse_constant=fail) == {"step": 0, "loss": "nan"}


def test_a_row_is_written_before_the_next_step(tmp_path):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as writer:
        writer.write(0, {"a": 1.0, "b": 2.0})
        assert len(metrics.read_metrics(str(tmp_path))[1]) == 1
        (path,) = (tmp_path / "tensorboard").iterdir()
        assert [v.tag for v in _read_events(path)[-1].summary.value] == ["a", "b"], (
            "one event per row, so no row is torn"
        )


@pytest.mark.parametrize("output", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_raises_in_write(tmp_path, output):
    """The error is not lost in a writer thread, for which the run would wait forever."""
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as writer:
        with _full_disk(_descriptor_of(tmp_path, output)), pytest.raises(OSError) as raised:
            writer.write(0, {"a": 1.0})
    assert raised.value.errno == errno.ENOSPC


@contextlib.contextmanager
def _full_disk(descriptor):
    """Make writes to an open file fail as on a full disk."""
    before = os.dup(descriptor)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), descriptor)
    yield
    os.dup2(before, descriptor)
    os.close(before)


def _descriptor_of(workdir, output):
    """Return the file descriptor of an open output."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(workdir / output)):
                return int(number)
    raise AssertionError(f"{output} is not open")


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


def test_without_a_resume_step_a_new_file_starts(tmp_path):
    _run(tmp_path, range(3))
    _run(tmp_path, range(1))
    assert [row["step"] for row in metrics.read_metrics(str(tmp_path))[1]] == [0]


def test_malformed_files_are_errors(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"config": {}}\n{"step": 0, "a\n{"step": 1}\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        metrics.read_metrics(str(path))
    path.write_text('{"step": 0}\n')
    with pytest.raises(UserError, match="does not begin with a config"):
        metrics.read_metrics(str(path))
    path.write_text('{"config": {}}\n{"step": 0, "a": 1}\n{"a": 1}\n')
    with pytest.raises(UserError, match="line 3 has no step"):
        metrics.read_metrics(str(path))
    path.write_text('{"config": {}}\n{"step": 0, "a": [1], "b": [2]}\n')
    with pytest.raises(UserError, match="line 2: not a single number, or a reserved name: a, b"):
        metrics.read_metrics(str(path))
    with pytest.raises(UserError, match="cannot read .*gone.jsonl: No such file"):
        metrics.read_metrics(str(tmp_path / "gone.jsonl"))


@pytest.mark.parametrize("values", [{"a": np.zeros(2)}, {"a": [1.0]}, {"step": 1}])
def test_values_other_than_single_numbers_are_errors(tmp_path, values):
    with metrics.open_metrics(str(tmp_path), config=CONFIG, resume_step=None) as writer:
        with pytest.raises(ValueError, match="single number"):
            writer.write(0, values)
    assert metrics.read_metrics(str(tmp_path))[1] == []


def test_terminal_line(tmp_path, capsys):
    _run(tmp_path, [2])
    assert capsys.readouterr().out == "step     2  accuracy 0.286  seconds 1.5\n"
    assert metrics.terminal_line(7, {"my/number": 0.12345}) == "step     7  my/number 0.123"


@pytest.mark.parametrize(
    "labels", [metrics.TERMINAL_METRICS, metrics.SFT_TERMINAL_METRICS, metrics.EVAL_TERMINAL_METRICS]
)
def test_terminal_line_fits_and_begins_with_what_matters(labels):
    usual, long = ({name: value for name in labels} for value in (0.123, -1.234567e-12))
    assert metrics.terminal_line(7, usual).count("0.123") >= min(6, len(labels))
    assert all(
        len(metrics.terminal_line(123456, row)) <= 100 for row in (usual, long, dict.fromkeys("abcdef" * 20, 1.0))
    )
    first = next(iter(labels.values()))
    assert metrics.terminal_line(7, {"zzz": 1.0} | long).startswith(f"step     7  {first} -1.23e-12")


def _read_events(path) -> list[Event]:
    """Read an event file: for each event 8 bytes length, 4 bytes checksum, the event, 4 bytes checksum."""
    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_tensorboard_has_every_value_and_a_resume_purges_repeated_steps(tmp_path):
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
