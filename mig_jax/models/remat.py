"""Rematerialization: what a layer stores for the backward pass, and what is computed again there.

none      stores everything that a derivative needs, including attention weights [B, N, T, T] of the XLA kernel
matmuls   stores the outputs of products with parameters; recomputes attention weights, norms and silu
layer     stores the input of each layer; recomputes the whole forward pass of the layer
"""

from collections.abc import Callable
from typing import Any

import jax

POLICIES = {
    "none": jax.checkpoint_policies.everything_saveable,
    "matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "layer": jax.checkpoint_policies.nothing_saveable,
}


def default_policy(device: Any) -> str:
    """Return the policy for a `jax.Device`: `matmuls` on CPUs, where storing a norm costs more than computing it."""
    return "matmuls" if device.platform == "cpu" else "none"


def checkpoint(run_layer: Callable, policy: str) -> Callable:
    """Wrap `run_layer`, the body of a `jax.lax.scan`, in `jax.checkpoint` with one of `POLICIES`."""
    # Inside a scan XLA cannot merge recomputed values with the original ones, so CSE need not be prevented.
    return jax.checkpoint(run_layer, prevent_cse=False, policy=POLICIES[policy])
