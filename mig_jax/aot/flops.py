"""What a step costs by formula, and the chips it is paid on. Nothing here is compiled, and nothing was measured.

FLOPs are those of the model, not of a program: two for each weight of a matrix and token, four for each number of a
query and token that it sees. What is computed and then masked away, or computed again (`model.remat`), is not counted;
nor is the compiler asked, which counts the body of a loop once. All prompts and completions are at their full lengths.

    forward = 2 · weights · tokens + 4 · L·N·H · pairs + 2 · D·V · logits        backward = 2 · forward
    floor of a step = FLOPs / (chips · peak)
"""

import dataclasses
import math

from flax import traverse_util

from mig_jax.config import Config
from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig

# Tokens of a probe's lead-in ("</think>\n<answer>\n") and closing tag (" </answer>") with Qwen's tokenizer.
LEAD_IN, CLOSING = 6, 3


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device, as JAX counts them.

    hbm_gib: memory that programs can have. Of a TPU, what its compiler says; of a GPU 90 %, for which
      XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 must be set (JAX takes 75 % otherwise).
    tflops: at peak, dense bfloat16.
    gb_per_s: of its memory, at peak.
    source: where the peaks are published.
    target: a GPU, as its compiler wants it described; "" for a TPU.
    """

    hbm_gib: float
    tflops: float
    gb_per_s: float
    source: str
    target: str = ""


_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 84978434048 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""

CHIPS = {
    "v5e": Chip(15.75, 197.0, 800.0, "cloud.google.com/tpu/docs/v6e, beside v6e"),
    "v5p": Chip(95.74, 459.0, 2765.0, "cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip(31.25, 918.0, 1638.0, "cloud.google.com/tpu/docs/tpu7x, beside TPU7x"),
    "tpu7x": Chip(94.75, 1153.5, 3690.0, "cloud.google.com/tpu/docs/tpu7x, half a chip, which is a device of JAX"),
    "h100": Chip(71.22, 989.4, 3350.0, "NVIDIA's data sheet of the H100 SXM5, without sparsity", _H100),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """What the model computes in a forward pass.

    tokens: that pass through the decoder's layers.
    pairs: of a token and one that it sees, in each layer.
    logits: tokens whose logits are computed.
    patches: that pass through the vision tower.
    patch_pairs: of a patch and one that it sees, in all layers of the tower together.
    """

    tokens: float = 0
    pairs: float = 0
    logits: float = 0
    patches: float = 0
    patch_pairs: float = 0


def step_work(config: Config, shape: DecoderConfig) -> dict[str, Work]:
    """The parts of a step of training. Cuts are taken to lie evenly, all steps and spellings to be there."""
    r, w, width, length = config.rollout, config.reward, config.data.max_prompt_tokens, config.rollout.max_new_tokens
    rows, slots = r.questions * r.group_size, width + length - 1  # the last token predicts nothing
    leaves = rows * (w.max_steps + 1) * w.max_variants
    scored = config.data.max_answer_tokens + CLOSING
    probe = LEAD_IN + scored - 1
    parts = {
        "prefill": Work(r.questions * width, r.questions * _triangle(width)),
        "decode": Work(rows * length, rows * (length * width + _triangle(length)), rows * length),
        "score": Work(leaves * probe, leaves * (probe * (width + length / 2) + _triangle(probe)), leaves * scored),
        "learn": Work(rows * slots, rows * _triangle(slots), rows * length),
    }
    if v := shape.vision:
        patches, full = config.model.vision.max_patches, len(v.full_layers)
        visible = full * patches + (v.layers - full) * v.patches_per_window
        parts["encode_images"] = Work(patches=r.questions * patches, patch_pairs=r.questions * patches * visible)
    return parts


def step_flops(config: Config, shape: DecoderConfig) -> dict[str, float]:
    """FLOPs of the parts of a step; "learn" is its updates, forward and backward."""
    parts = {name: forward_flops(work, shape) for name, work in step_work(config, shape).items()}
    forward = parts["learn"]
    parts["learn"] *= 2 if shape.lora else 3  # frozen weights pass gradients on, but have none
    if shape.vision and not config.model.vision.freeze:
        parts["learn"] += 3 * parts["encode_images"]
    parts["learn"] *= config.optimizer.updates_per_rollout
    if not config.loss.alpha:
        del parts["score"]
    return parts | ({"reference": forward} if config.loss.kl_coef else {})


def forward_flops(work: Work, shape: DecoderConfig) -> float:
    """FLOPs of a forward pass."""
    text, tower, merger = matrix_weights(shape)
    total = 2.0 * text * work.tokens + 4 * shape.layers * shape.heads * shape.head_size * work.pairs
    total += 2 * shape.width * shape.vocab_size * work.logits
    if v := shape.vision:
        total += 2 * (tower + merger / v.patches_per_unit) * work.patches + 4 * v.width * work.patch_pairs
    return total


def matrix_weights(shape: DecoderConfig) -> tuple[int, int, int]:
    """Weights of the matrices that a token passes through: in the decoder's layers, in the tower, in its merger."""
    sizes = dict.fromkeys(("layers", "vision", "merger"), 0)
    for path, x in traverse_util.flatten_dict(decoder.abstract_params(shape), sep="/").items():
        part = "merger" if "merger" in path else path.split("/")[0]
        if part in sizes and "norm" not in path and "bias" not in path:
            sizes[part] += math.prod(x.shape)
    return sizes["layers"], sizes["vision"], sizes["merger"]


def decode_seconds(config: Config, shape: DecoderConfig, *, chips: int, tensor: int, chip: Chip) -> float:
    """Floor of decoding by memory: for each token a chip reads all weights of its part of `tensor`, and its cache."""
    r, number = config.rollout, 2 if shape.dtype == "bfloat16" else 4
    weights = matrix_weights(shape)[0] + shape.width * shape.vocab_size
    slots = r.questions * r.group_size * (config.data.max_prompt_tokens + r.max_new_tokens / 2)
    cache = 2 * shape.layers * shape.kv_heads * shape.head_size * slots
    return r.max_new_tokens * number * (weights / tensor + cache / chips) / (chip.gb_per_s * 1e9)


def _triangle(length: int) -> float:
    """Pairs of `length` tokens of which each sees itself and those before it."""
    return length * (length + 1) / 2
