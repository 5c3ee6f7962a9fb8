"""Fingerprints of what a run reads anew when it is resumed: parameters that checkpoints do not hold, and data rows."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.learning.train_step import partition
from mig_jax.policy.load import Policy

# Types of the fingerprints of parameters, most exact first. A run may be resumed with parameters of another type.
PARAM_DTYPES = ("float32", "bfloat16")


def fingerprint_params(policy: Policy, config: Config, mode: str) -> dict[str, str]:
    """Return fingerprints, by name, of the parameters that are read from `model.path` even when a run is resumed.

    These are the frozen ones and, for the KL to a copy of the policy at the start, all. Call it before the parameters
    are donated.
    """
    read = partition(policy.params, policy.is_trainable)[1]
    if mode == "train" and config.loss.kl_coef and policy.config.lora is None:
        read = policy.params
    leaves = jax.tree.leaves(read)
    exact = [dtype for dtype in PARAM_DTYPES if all(x.dtype.itemsize >= jnp.dtype(dtype).itemsize for x in leaves)]
    return {f"base parameters ({dtype})": _digest_params(read, dtype) for dtype in exact if leaves}


def check_fingerprints(workdir: str, *, before: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Check that a run is resumed with the parameters and data rows that it was started with.

    Args:
      workdir: for the message.
      before: fingerprints in the checkpoint, by name; None if it has none.
      now: the current ones. Those of other settings, under other names, are not compared.

    Raises:
      UserError: names everything that differs.
    """
    if before is None:
        raise UserError(f"{workdir} was started by an earlier version, whose runs cannot be resumed; use a new workdir")
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise UserError(
            f"{workdir} was started with other files; use a new workdir, or restore the files that these were read "
            f"from: {', '.join(changed)}"
        )


def checksum(x: jax.Array) -> jax.Array:
    """Return Σᵢ (2i + 1) · bits(xᵢ) modulo 2³² over the elements of an array, in row-major order.

    The sum is exact, so that it does not depend on how the array is sharded. It differs if a single element differs.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    position, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        position += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= x.shape[axis]
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)


def _digest_params(params: Any, dtype: str) -> str:
    """Return a digest of the parameters, rounded to `dtype`, and of their paths."""
    sums = sharding.to_host(_checksums(params, dtype))
    leaves, _ = jax.tree_util.tree_flatten_with_path(sums)
    by_path = {jax.tree_util.keystr(path): int(value) for path, value in leaves}
    return hashlib.sha256(json.dumps(by_path, sort_keys=True).encode()).hexdigest()


@functools.partial(jax.jit, static_argnames="dtype")
def _checksums(params: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: checksum(x.astype(dtype)), params)
