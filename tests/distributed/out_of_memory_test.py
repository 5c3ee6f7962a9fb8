"""Errors of devices that ran out of memory name the program and what shrinks it; other errors pass."""

import jax
import pytest

from mig_jax.config import Config
from mig_jax.distributed import out_of_memory
from mig_jax.distributed.out_of_memory import DeviceMemoryError, explain_out_of_memory
from mig_jax.errors import UserError
from tests import tiny


def explain(message, program="update", **changes):
    """Return the message of the error that replaces one with this message."""
    with pytest.raises(DeviceMemoryError) as caught, explain_out_of_memory(program, tiny.get_config(**changes)):
        raise jax.errors.JaxRuntimeError(message)
    return str(caught.value)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 42949672960 bytes.", "40.0 GiB"),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 39.25GiB.", "39.2 GiB"),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 512.5 MiB", "512.5 MiB"),
        ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm.", None),
        ("INTERNAL: Failed call to cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory", None),
    ],
)
def test_messages_of_all_devices(message, size):
    text = explain(message)
    assert text.startswith("out of device memory in update" + (f" (asked for {size} more); " if size else "; "))
    assert "\n" not in text


def test_only_what_is_left_to_do_is_suggested():
    before = explain("RESOURCE_EXHAUSTED", optimizer__logprob_tokens=4)
    assert "raise optimizer.microbatches (now 1), set model.remat=layer (now chosen for the device)" in before
    assert "optimizer.logprob_tokens" in before and "kl_reference_on_host" not in before
    after = explain(
        "RESOURCE_EXHAUSTED",
        model__remat="layer",
        optimizer__logprob_tokens=1,
        optimizer__state_dtype="bfloat16",
        loss__kl_coef=0.1,
    )
    assert not any(key in after for key in ("remat", "logprob_tokens", "state_dtype"))
    assert "set loss.kl_reference_on_host=True (now False)" in after


def test_gpus_can_be_given_more_of_their_memory(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert "MEM_FRACTION" not in explain("RESOURCE_EXHAUSTED")
    monkeypatch.setattr(out_of_memory.jax, "default_backend", lambda: "gpu")
    assert explain("RESOURCE_EXHAUSTED").endswith("XLA_PYTHON_CLIENT_MEM_FRACTION=0.9")


@pytest.mark.parametrize("error", [ValueError("INTERNAL: no"), UserError("RESOURCE_EXHAUSTED is quoted here")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, explain_out_of_memory("update", tiny.get_config()):
        raise error
    assert caught.value is error


def test_every_suggestion_is_a_key_of_the_config():
    config: Config = tiny.get_config()
    for suggestions in out_of_memory.SUGGESTIONS.values():
        for _, option in suggestions:
            section, name = option.partition("=")[0].split(".")
            assert name in config[section].to_dict()
