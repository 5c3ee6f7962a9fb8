"""What a layer keeps for the backward pass, and what is computed again there, by name.

none      every number that a derivative needs is kept; of XLA's attention its weights [B, N, T, T], too
matmuls   the outputs of products with weights are kept; attention weights, norms, silu are computed again
layer     the input of each layer is kept; all of its forward pass is computed again
"""

from collections.abc import Callable

import jax

POLICIES = {
    "none": jax.checkpoint_policies.everything_saveable,
    "matmuls": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "layer": jax.checkpoint_policies.nothing_saveable,
}


def checkpoint(run_layer: Callable, policy: str) -> Callable:
    """`run_layer`, the body of a scan, under one of `POLICIES`."""
    # A scan keeps what is computed again from being merged with what was computed before.
    return jax.checkpoint(run_layer, prevent_cse=False, policy=POLICIES[policy])
