"""Out-of-memory errors of devices, as one line: which program ran out, and which options shrink it."""

import contextlib
import os
import re
from collections.abc import Iterator

import jax

from mig_jax.config import Config
from mig_jax.errors import UserError

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|hipErrorOutOfMemory")
# "allocate 12884901888 bytes", "allocate 12.00GiB", "allocating 12.5 GiB"
_SIZE = re.compile(r"allocat\w+ (\d[\d.]*) ?(bytes|[KMGT]iB)")

_ROWS, _LENGTH = ("lower", "rollout.questions"), ("lower", "rollout.max_new_tokens")
_PROBES = ("lower", "reward.max_variants"), ("lower", "reward.max_steps")
_CACHE, _LOGITS = ("raise", "rollout.kv_cache_chunks"), ("lower", "optimizer.logprob_tokens")
_MOMENTS, _DEVICES = ("set", "optimizer.state_dtype=bfloat16"), ("raise", "mesh.fsdp")
_REMAT, _REFERENCE = ("set", "model.remat=layer"), ("set", "loss.kl_reference_on_host=True")
_CHOSEN = ("optimizer.microbatches", "model.remat")  # for the device, where they are 0 or ""
# Program -> the options that shrink it, the most effective first: what to do, and the key. Moments are in memory while
# a rollout is sampled and scored, too.
SUGGESTIONS = {
    "sampling": (_ROWS, _CACHE, _LENGTH, _MOMENTS, _DEVICES),
    "scoring": (_ROWS, *_PROBES, _LENGTH, _LOGITS, _MOMENTS, _DEVICES),
    "reference": (_LOGITS, _ROWS, _LENGTH, _MOMENTS, _DEVICES),
    "update": (("raise", "optimizer.microbatches"), _REMAT, _LOGITS, _MOMENTS, _REFERENCE, _LENGTH, _DEVICES),
    "evaluation": (("lower", "eval.batch_size"), _CACHE, _LENGTH, _MOMENTS, _DEVICES),
}


class DeviceMemoryError(UserError):
    """A program did not fit into the memory of its devices; the message names it and what shrinks it."""


@contextlib.contextmanager
def explain_out_of_memory(program: str, config: Config) -> Iterator[None]:
    """Turn an out-of-memory error of the block into one that names the program and the options that shrink it.

    Devices run behind the host, so the block must also contain the first read of the program's results: an error is
    raised there.

    Args:
      program: a key of `SUGGESTIONS`.
      config: the run's config; the message gives its values of these options.

    Raises:
      DeviceMemoryError: a device ran out of memory. Other errors pass.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not _OUT_OF_MEMORY.search(str(error)):
            raise
        size = _asked_size(str(error))
        raise DeviceMemoryError(
            f"out of device memory in {program}{f' (asked for {size} more)' if size else ''}; to shrink it, "
            f"{', '.join(_suggest(program, config))}"
        ) from error


def _suggest(program: str, config: Config) -> list[str]:
    """Return what to do, with the present values; without what is done already."""
    suggestions = []
    for action, option in SUGGESTIONS[program]:
        key, _, wanted = option.partition("=")
        section, name = key.split(".")
        value = config[section][name]
        is_done = str(value) == wanted or (key == "loss.kl_reference_on_host" and not config.loss.kl_coef)
        if action == "lower" and value == 1:
            is_done = True
        if not is_done:
            shown = "chosen for the device" if key in _CHOSEN and not value else repr(value)
            suggestions.append(f"{action} {option} (now {shown})")
    if jax.default_backend() == "gpu" and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        suggestions.append("or give JAX more than 75 % of the GPU's memory: XLA_PYTHON_CLIENT_MEM_FRACTION=0.9")
    return suggestions


def _asked_size(message: str) -> str | None:
    """Return the size that could not be allocated, such as "12.0 GiB"; None if the message does not say."""
    found = _SIZE.search(message)
    if not found:
        return None
    number, unit = float(found[1]), found[2]
    if unit == "bytes":
        number, unit = number / 2**30, "GiB"
    return f"{number:,.1f} {unit}"
