"""Choose the number of micro-batches of an update, where `optimizer.microbatches` is 0.

The update is the same to rounding for any number. On a CPU, a micro-batch whose arrays fit into caches is fastest. On
an accelerator it is the largest one that fits into memory, since each gathers all parameters once.

The choice depends on the config, the shapes of the batch, the mesh and the kind of device alone, so that all processes
and a resumed run make the same one.
"""

import dataclasses
import re
from typing import Any

import jax

from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.learning.train_step import init_state, partition
from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.policy.load import Policy

# Tokens of a micro-batch on each CPU device. Measured with widths of 64 and 256: 1,024 and 256 take up to a tenth more
# time, a whole batch of 6,000 to 30,000 tokens 1.4 to 3 times as much.
CPU_TOKENS = 512

# Memory of a device in GB, by a part of its kind's name; other kinds name their own ("NVIDIA A100-SXM4-80GB").
MEMORY_GB = {
    "v5 lite": 16, "v5e": 16, "v5p": 95, "v5": 95, "v6 lite": 32, "v6e": 32, "v4": 32, "v3": 16, "v2": 8, "TPU7x": 96,
    "H200": 141, "H100": 80, "A10": 24, "L4": 24, "T4": 15, "V100": 16,
}  # fmt: skip
UNKNOWN_GB = 16

# Share of that memory that the arrays counted here may take; the rest is for what is not counted. JAX takes 0.75 of a
# GPU's.
MEMORY_SHARE = 0.7


@dataclasses.dataclass(frozen=True)
class AutoMicrobatches:
    """The choice for one run: called with the batch of an update, also while tracing, it returns the number.

    shape: of the decoder.
    shards: number of batch shards of the mesh.
    tensor: number of devices that heads and MLP are split over.
    budget: bytes on each device for what a micro-batch stores; None on a CPU.
    """

    shape: DecoderConfig
    shards: int
    tensor: int
    budget: float | None

    def __call__(self, batch: Batch) -> int:
        rows, slots = batch.token_bs.shape
        return self.choose(rows, slots, units=min(x.shape[0] for x in jax.tree.leaves(batch)))

    def choose(self, rows: int, slots: int, *, units: int) -> int:
        """Return the number of micro-batches of `rows` rows of `slots` tokens, prompt and completion together.

        Args:
          rows: B.
          slots: S.
          units: parts that the rows can be divided into: rows, or prompts if they have images.
        """
        possible = [n for n in range(1, units + 1) if units % n == 0 and units // n % self.shards == 0] or [1]
        fitting = [n for n in possible if self._fits(rows // n // self.shards, slots)]
        return min(fitting, default=possible[-1])

    def _fits(self, rows: int, slots: int) -> bool:
        if self.budget is None:
            return rows * slots <= CPU_TOKENS
        return stored_bytes(self.shape, rows, slots, tensor=self.tensor) <= self.budget


def stored_bytes(shape: DecoderConfig, rows: int, slots: int, *, tensor: int = 1) -> float:
    """Return about how many bytes the layers store on a device for the backward pass of some rows; see `models.remat`.

    Args:
      shape: of the decoder; `remat` and `attention` count.
      rows: on the device.
      slots: tokens of a row.
      tensor: number of devices that heads and MLP are split over.
    """
    c, tokens, itemsize = shape, rows * slots, 2 if shape.dtype == "bfloat16" else 4
    # Each device has room for all tokens of its rows with all of their experts.
    mlp = c.experts.per_token * c.experts.width * tensor if c.experts else c.mlp_width
    heads = (c.heads + 2 * c.kv_heads) * c.head_size
    products = tokens * itemsize * (2 * c.width + (heads + 2 * mlp) / tensor)
    others = tokens * itemsize * (6 * c.width + (heads + 2 * c.heads * c.head_size + 2 * mlp) / tensor)
    if c.experts:  # tokens sorted by expert, and their outputs, sorted and by token
        others += tokens * itemsize * 4 * c.experts.per_token * c.width
    if c.attention == "xla":  # attention weights, in float32 and in the dtype of activations
        others += tokens * slots * c.heads / tensor * (4 + itemsize)
    stored = {"none": products + others, "matmuls": products, "layer": 0}[c.remat] + tokens * itemsize * c.width
    # Values and their gradients of the layer that is differentiated.
    return c.layers * stored + 2 * (products + others)


def memory_gb(kind: str) -> float:
    """Return the memory of a kind of device in GB, from its name; `UNKNOWN_GB` if it does not tell."""
    if found := re.search(r"(\d+) ?GB", kind):
        return float(found[1])
    return next((size for name, size in MEMORY_GB.items() if name.lower() in kind.lower()), UNKNOWN_GB)


def auto_microbatches(policy: Policy, config: Config, tx: Any) -> AutoMicrobatches:
    """Return the choice for a run.

    Args:
      policy: its shapes, mesh and devices.
      config: of the run.
      tx: its optimizer.
    """
    device = policy.mesh.devices.flat[0]
    shards, tensor = sharding.count_batch_shards(policy.mesh), policy.mesh.shape["tensor"]
    budget = None
    if device.platform != "cpu":
        budget = MEMORY_SHARE * 1e9 * memory_gb(device.device_kind) - _resident_bytes(policy, config, tx)
    return AutoMicrobatches(policy.config, shards, tensor, budget)


def _resident_bytes(policy: Policy, config: Config, tx: Any) -> float:
    """Return the bytes on a device of what is there whatever the micro-batch: state, gradients, reference, logits."""
    trained = partition(policy.params, policy.is_trainable)[0]
    state = jax.eval_shape(lambda params: init_state(params, tx, policy.is_trainable), policy.params)
    gradients = 2 * 4 * sum(x.size for x in jax.tree.leaves(trained))  # a micro-batch's and their sum, in float32
    has_reference = config.loss.kl_coef and not config.loss.kl_reference_on_host and not policy.config.lora
    reference = _nbytes(trained) if has_reference else 0
    logits = 3 * 4 * config.optimizer.logprob_tokens * policy.config.vocab_size / policy.mesh.shape["tensor"]
    return (_nbytes(state) + gradients + reference) / (policy.mesh.shape["fsdp"] * policy.mesh.shape["tensor"]) + logits


def _nbytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
