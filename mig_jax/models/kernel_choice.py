"""Which attention kernel runs on a device."""

import re
from typing import Any

from mig_jax.errors import UserError

# Compute capability from which NVIDIA GPUs have cuDNN's flash attention, and units for bfloat16.
_AMPERE = (8, 0)
# Compute capability from which that attention has heads of 256.
_HOPPER = (9, 0)


def choose_kernel(wanted: str, *, device: Any, dtype: str, head_size: int) -> str:
    """Return `wanted`, or the fastest kernel of the device if that is "".

    Args:
      wanted: a key of `attention.KERNELS`, or "".
      device: one of the `jax.Device`s that run the model.
      dtype: of the activations; cuDNN's kernel needs bfloat16 or float16.
      head_size: H; cuDNN's kernel has heads of up to 128, or of 256 from compute capability 9.0 on.

    Raises:
      UserError: the kernel does not run on this device.
    """
    fastest = "xla"
    if device.platform == "tpu":
        fastest = "splash"
    elif dtype in ("bfloat16", "float16") and head_size <= _largest_head(device) and head_size % 8 == 0:
        fastest = "cudnn"
    if wanted not in ("", "xla", fastest):
        raise UserError(
            f"model.attention={wanted!r} does not run on {describe_device(device)} in {dtype} with heads of "
            f"{head_size}: model.attention='' selects {fastest}"
        )
    return wanted or fastest


def _largest_head(device: Any) -> int:
    """Return the size of the largest head that cuDNN's flash attention computes on a device; 0 if it has none."""
    capability = compute_capability(device) or (0, 0)
    return 256 if capability >= _HOPPER else 128 if capability >= _AMPERE else 0


def compute_capability(device: Any) -> tuple[int, int] | None:
    """Return the compute capability of an NVIDIA GPU, such as (9, 0); None for any other `jax.Device`."""
    version = str(getattr(device, "compute_capability", ""))  # AMD's GPUs have names here, such as "gfx90a"
    found = re.fullmatch(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def lacks_bfloat16(device: Any) -> bool:
    """Return whether a `jax.Device` is an NVIDIA GPU without units for bfloat16, such as a T4 or V100."""
    return (compute_capability(device) or _AMPERE) < _AMPERE


def describe_device(device: Any) -> str:
    """Return the name of a `jax.Device` for messages, with its compute capability if it has one."""
    capability = compute_capability(device)
    if capability is None:
        return f"a {device.platform}"
    return f"a {device.platform} ({device.device_kind}, compute capability {capability[0]}.{capability[1]})"
