"""Many devices do what one does, in one process or in two: rollouts, scores and updates."""

import jax
import numpy as np
import pytest

from tools import device_table


def test_eight_devices_equal_one():
    """On a mesh of all three axes."""
    one = device_table.run("text", "mig", {}, jax.devices()[:1])
    eight = device_table.run("text", "mig", {"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    found = device_table.difference(one, eight)
    assert found.is_rounding, found


def test_two_processes_equal_one(tmp_path):
    """Each holds half of the weights, and the second one learns from the first rows."""
    one = device_table.run("text", "sft", {}, jax.devices()[:1])
    (two,) = device_table.run_in(2, 1, [device_table.Job("text", "sft", {"fsdp": 2}, "reversed")], tmp_path / "two")
    found = device_table.difference(one, two)
    assert found.is_rounding, found


def test_a_fault_is_more_than_rounding():
    """Another update, other tokens, and weights that have not moved are all told from rounding."""
    weights = np.linspace(1, 2, 9)
    one = device_table.Run(np.arange(6), np.array([3.0, 2.0, 0.0]), weights, weights + 0.01)
    assert device_table.difference(one, one).is_rounding
    wrong = one.end + 0.01 * (one.end - one.start)
    assert not device_table.difference(one, one._replace(end=wrong)).is_rounding
    assert not device_table.difference(one, one._replace(tokens=one.tokens + 1)).is_rounding
    assert not device_table.difference(*[one._replace(end=one.start)] * 2).is_rounding


@pytest.mark.slow
@pytest.mark.parametrize("model", device_table.MODELS)
@pytest.mark.parametrize("method", device_table.METHODS)
def test_the_whole_table(tmp_path, model, method):
    assert device_table.table(tmp_path, [model], [method], device_table.SHAPES)
