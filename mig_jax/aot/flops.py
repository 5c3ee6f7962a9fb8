"""FLOPs of a training step by formula, and the peak rates of chips. Nothing here is compiled or measured.

The FLOPs are those of the model: two per matrix element and token, four per query element and visible token. Work that
is masked away or recomputed (`model.remat`) is not counted; nor are experts that a token does not choose. The
compiler's own count is not used, because it counts the body of a loop once. All prompts and completions have their
maximum lengths.

    forward = 2 · matrix parameters · tokens + 4 · L·N·H · pairs + 2 · D·V · logits        backward = 2 · forward
    minimum time of a step = FLOPs / (chips · peak rate)
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import traverse_util

from mig_jax.config import Config
from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig
from mig_jax.text.step_format import SPACES, find_format

# Characters of a token of tags: with Qwen's tokenizer, "</think>\n<answer>\n" is 6 tokens, " </answer>" 3.
TAG_CHARACTERS = 3


class ProbeTokens(NamedTuple):
    """Tokens of the fixed parts of a probe, estimated from their characters.

    lead_in, closing: before and after the answer; `closing` are those that are scored.
    opening: what the probe before the first step writes.
    prefix: what other probes write before the lead-in.
    endings: sets of ids of the last scored position.
    """

    lead_in: int
    closing: int
    opening: int
    prefix: int
    endings: int


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device of a kind of accelerator.

    hbm_gib: memory that programs can use, in GiB. TPU: the limit that its compiler reports. GPU: 90 % of the memory,
      which needs XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 (the default of JAX is 75 %).
    tflops: peak rate in TFLOP/s, dense bfloat16.
    gb_per_s: peak memory bandwidth in GB/s.
    source: where the peak rates are published.
    target: the GPU's description for its compiler; "" for a TPU.
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
    "v5e": Chip(15.75, 197.0, 800.0, "cloud.google.com/tpu/docs/v6e, in its comparison with v5e"),
    "v5p": Chip(95.74, 459.0, 2765.0, "cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip(31.25, 918.0, 1638.0, "cloud.google.com/tpu/docs/tpu7x, in its comparison with v6e"),
    "tpu7x": Chip(94.75, 1153.5, 3690.0, "cloud.google.com/tpu/docs/tpu7x, half a chip, which is one JAX device"),
    "h100": Chip(71.22, 989.4, 3350.0, "NVIDIA H100 SXM5 data sheet, without sparsity", _H100),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """Amounts that determine the FLOPs of a forward pass.

    tokens: tokens that pass through the decoder's layers.
    pairs: pairs of a token and a token visible to it, in one layer; the mean of the layers if some have a window.
    logits: tokens whose logits are computed.
    patches: patches that pass through the vision tower.
    patch_pairs: pairs of a patch and a patch visible to it, summed over the tower's layers.
    """

    tokens: float = 0
    pairs: float = 0
    logits: float = 0
    patches: float = 0
    patch_pairs: float = 0


def step_work(config: Config, shape: DecoderConfig) -> dict[str, Work]:
    """Return program → work of its forward pass, for one training step.

    Every response has as many steps as probes, evenly spaced, and every answer all its variants.
    """
    questions, rows = config.rollout.questions, config.rollout.questions * config.rollout.group_size
    prompt, completion = config.data.max_prompt_tokens, config.rollout.max_new_tokens
    slots = prompt + completion - 1  # the last token predicts nothing
    steps, variants = config.reward.max_steps, config.reward.max_variants
    fixed, count = probe_tokens(config), functools.partial(_count_pairs, shape)
    scored = config.data.max_answer_tokens + fixed.closing
    # Probes after each step, and those of the question, which also write the opening.
    mean_cut = prompt + completion * (steps + 1) / (2 * steps)
    probes = _probe_work(count, rows * steps, variants, fixed.prefix + fixed.lead_in, scored - 1, mean_cut)
    opened = _probe_work(count, questions, variants, fixed.opening + fixed.lead_in, scored - 1, prompt)
    score = Work(
        probes.tokens + opened.tokens,
        probes.pairs + opened.pairs,
        (rows * steps + questions) * variants * scored,
    )
    programs = {
        "prefill": Work(questions * prompt, questions * count(prompt)),
        "decode": Work(rows * completion, rows * count(completion, prompt), rows * completion),
        "score": score,
        "update": Work(rows * slots, rows * count(slots), rows * completion),
    }
    if v := shape.vision:
        patches = config.model.vision.max_patches
        programs["encode_images"] = Work(
            patches=questions * patches, patch_pairs=questions * patches * v.count_pairs(patches)
        )
    return programs


def probe_tokens(config: Config) -> ProbeTokens:
    """Return the tokens of the fixed parts of a probe, in the response format of a config."""
    format = dataclasses.replace(find_format(config.response_format), space=SPACES[1])
    texts = (format.lead_in, format.close, format.opening, format.closing if format.fits_lead_in else "")
    lead_in, closing, opening, prefix = (round(len(text) / TAG_CHARACTERS) for text in texts)
    if config.reward.terminator == "event":
        return ProbeTokens(lead_in, 1, opening, prefix, len(format.closings))
    return ProbeTokens(lead_in, max(1, closing), opening, prefix, 1)


def step_flops(config: Config, shape: DecoderConfig) -> dict[str, float]:
    """Return program → FLOPs in one training step. "update" is forward and backward, for all updates of a rollout."""
    flops = {name: forward_flops(work, shape) for name, work in step_work(config, shape).items()}
    forward = flops["update"]
    flops["update"] *= 2 if shape.lora else 3  # frozen parameters pass gradients on, but have none of their own
    if shape.vision and not config.model.vision.freeze:
        flops["update"] += 3 * flops["encode_images"]
    flops["update"] *= config.optimizer.updates_per_rollout
    if not config.loss.alpha:
        del flops["score"]
    forward_only = {
        "recompute": config.loss.old_logprobs == "recomputed",
        "reference": config.loss.kl_coef,
    }
    return flops | {name: forward for name, is_on in forward_only.items() if is_on}


def forward_flops(work: Work, shape: DecoderConfig) -> float:
    """Return the FLOPs of a forward pass, by the formula above."""
    sizes = count_matrix_params(shape)
    total = 2.0 * sizes.per_token * work.tokens + 4 * shape.layers * shape.heads * shape.head_size * work.pairs
    total += 2 * shape.width * shape.vocab_size * work.logits
    if v := shape.vision:
        total += 2 * (sizes.vision + sizes.merger / v.patches_per_unit) * work.patches + 4 * v.width * work.patch_pairs
    return total


class MatrixParams(NamedTuple):
    """Parameters in matrices, without norms, biases and tables that are looked up.

    layers: of the decoder's layers.
    per_token: of these, those that a token is multiplied by: all but the experts that it does not choose.
    vision: of the vision tower without its merger.
    merger: of its mergers.
    """

    layers: int
    per_token: int
    vision: int
    merger: int


def count_matrix_params(shape: DecoderConfig) -> MatrixParams:
    """Count the parameters in matrices of the decoder's layers, the vision tower and its mergers."""
    sizes = dict.fromkeys(MatrixParams._fields, 0)
    params: dict[str, Any] = traverse_util.flatten_dict(decoder.abstract_params(shape), sep="/")
    for path, x in params.items():
        part = "merger" if "merger" in path else path.split("/")[0]
        if part in sizes and not any(word in path for word in ("norm", "bias", "position_embedding")):
            sizes[part] += math.prod(x.shape)
    return MatrixParams(**sizes | {"per_token": sizes["layers"] - unused_expert_params(shape)})


def unused_expert_params(shape: DecoderConfig) -> int:
    """Count the parameters of the experts that a token does not choose, in all layers."""
    e = shape.experts
    return 3 * shape.layers * shape.width * e.width * (e.count - e.per_token) if e else 0


def decode_seconds(config: Config, shape: DecoderConfig, *, chips: int, tensor: int, chip: Chip) -> float:
    """Return the minimum seconds that decoding takes by memory bandwidth.

    For each token, a chip reads the parameters of its shard along the mesh axis `tensor`, and its share of the KV cache
    at half of the completion's length. Of a mixture of experts it reads those that its rows choose, if they choose
    independently.
    """
    r, itemsize = config.rollout, 2 if shape.dtype == "bfloat16" else 4
    params = count_matrix_params(shape).layers + shape.width * shape.vocab_size
    if e := shape.experts:
        rows, unused = r.questions * r.group_size * tensor / chips, 1 - e.per_token / e.count
        params -= 3 * shape.layers * shape.width * e.width * e.count * unused**rows
    slots = r.questions * r.group_size * (config.data.max_prompt_tokens + r.max_new_tokens / 2)
    cache = 2 * shape.layers * shape.kv_heads * shape.head_size * slots
    return r.max_new_tokens * itemsize * (params / tensor + cache / chips) / (chip.gb_per_s * 1e9)


def _probe_work(count: Callable[..., float], cuts: int, variants: int, common: int, rest: int, visible: float) -> Work:
    """Return the work of the probes after so many cuts, each of which sees so many tokens of the trunk.

    The variants of a cut have `common` tokens in common, which are computed once, and `rest` tokens each.
    """
    branches = cuts * count(common, visible)
    leaves = cuts * variants * count(rest, visible + common)
    return Work(cuts * (common + variants * rest), branches + leaves)


def _count_pairs(shape: DecoderConfig, length: int, before: float = 0) -> float:
    """Return the pairs of `length` tokens, each of which sees itself and those before it, in one layer on average.

    Args:
      before: number of tokens before the first of them.
    """
    everything = length * before + length * (length + 1) / 2
    if shape.window is None:
        return everything
    # So many tokens see all before them; the others as many as the window has.
    whole = min(max(shape.window - before, 0), length)
    near = whole * before + whole * (whole + 1) / 2 + (length - whole) * shape.window
    full = len(shape.full_layers) / shape.layers
    return full * everything + (1 - full) * near
