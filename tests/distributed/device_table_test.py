"""Rollouts, scores and updates on several devices, in one process or in two, equal those on one device."""

import jax
import numpy as np
import pytest

from tools import device_table


@pytest.mark.slow  # sharding_test has a training step, and two processes follow
def test_eight_devices_equal_one():
    """The mesh has all three axes."""
    one = device_table.run("text", "mig", {}, jax.devices()[:1])
    eight = device_table.run("text", "mig", {"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    found = device_table.difference(one, eight)
    assert found.is_rounding, found


def test_two_processes_equal_one(tmp_path):
    """Each process holds half of the parameters, and the second one trains on the first rows."""
    one = device_table.run("text", "sft", {}, jax.devices()[:1])
    job = device_table.Job("text", "sft", {"fsdp": 2}, "reversed")
    (two,) = device_table.run_in_processes(2, 1, [job], tmp_path / "two")
    found = device_table.difference(one, two)
    assert found.is_rounding, found


def test_errors_are_told_from_rounding():
    """A wrong update, wrong tokens, and parameters without any update are not taken for rounding."""
    params = np.linspace(1, 2, 9)
    one = device_table.Run(np.arange(6), np.array([3.0, 2.0, 0.0]), params, params + 0.01)
    assert device_table.difference(one, one).is_rounding
    wrong = one.end + 0.01 * (one.end - one.start)
    assert not device_table.difference(one, one._replace(end=wrong)).is_rounding
    assert not device_table.difference(one, one._replace(tokens=one.tokens + 1)).is_rounding
    assert not device_table.difference(*[one._replace(end=one.start)] * 2).is_rounding


@pytest.mark.slow
@pytest.mark.parametrize("model", device_table.MODELS)
@pytest.mark.parametrize("method", device_table.METHODS)
def test_whole_table(tmp_path, model, method):
    assert device_table.print_table(tmp_path, [model], [method], device_table.SHAPES)
