"""The KL reference: the policy's parameters at the start of a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mig_jax.learning.train_step import combine, partition
from mig_jax.models import lora
from mig_jax.policy.load import Policy


def make_kl_reference(policy: Policy, *, on_host: bool) -> Callable[[Any], Any]:
    """Return a function that maps the current parameters to those of the KL reference.

    Trainable parameters are copied; frozen ones are shared. With LoRA nothing is copied: the reference is the model
    without its adapters.

    Args:
      policy: at the start of the run.
      on_host: keep the copy in host memory; it is on the devices only while the function's result is in use.
    """
    if policy.config.lora:
        return lora.strip
    trained = partition(policy.params, policy.is_trainable)[0]
    if not on_host:
        copied = jax.tree.map(jnp.copy, trained)
        return lambda params: combine(copied, partition(params, policy.is_trainable)[1])
    on_device = jax.tree.map(lambda x: x.sharding, trained)
    in_host_memory = jax.tree.map(lambda sharding: sharding.with_memory_kind("pinned_host"), on_device)
    # No alias, even where host and device memory are one: updates donate the memory of the parameters.
    copied = jax.device_put(trained, in_host_memory, may_alias=False)
    return lambda params: combine(jax.device_put(copied, on_device), partition(params, policy.is_trainable)[1])
