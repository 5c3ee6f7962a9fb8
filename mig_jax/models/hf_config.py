"""config.json of a Hugging Face folder to `DecoderConfig`, and back."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

_SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
}

# Fields that change the computation, and the one value (also when absent) that the decoder computes.
_SUPPORTED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1,
    "quantization_config": None,
}


def read_config(folder: str | os.PathLike) -> DecoderConfig:
    """The config of a Llama, Qwen2, Qwen2.5 or Qwen3 folder, old (`rope_theta`) or new (`rope_parameters`).

    Raises:
      ValueError: config.json asks for what the decoder does not compute, or lacks a size; all of it is listed.
    """
    file = pathlib.Path(folder) / "config.json"
    raw = json.loads(file.read_text())
    raw |= raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if problems := list(_problems(raw)):
        raise ValueError(f"{file}: not a model that the decoder runs:\n  " + "\n  ".join(problems))
    family, biased, heads = raw["model_type"], raw.get("attention_bias", False), raw["num_attention_heads"]
    default_head_size = 128 if family == "qwen3" else raw["hidden_size"] // heads
    return DecoderConfig(
        **{ours: raw[theirs] for ours, theirs in _SIZES.items()},
        kv_heads=raw.get("num_key_value_heads") or heads,
        head_size=raw.get("head_dim") or default_head_size,
        rope_theta=float(raw.get("rope_theta", 10_000)),
        norm_eps=raw.get("rms_norm_eps", 1e-6),
        tied_head=raw.get("tie_word_embeddings", False),
        qkv_bias=biased or family == "qwen2",
        o_bias=biased and family != "qwen2",
        qk_norm=family == "qwen3",
        max_positions=raw.get("max_position_embeddings", 2048 if family == "llama" else 32_768),
    )


def _problems(raw: dict[str, Any]) -> Iterator[str]:
    """Every field that stands in the way, with what would be supported."""
    if raw.get("model_type") not in _ARCHITECTURES:
        yield f"model_type = {raw.get('model_type')!r}; supported: {', '.join(_ARCHITECTURES)}"
    for field in _SIZES.values():
        if not isinstance(raw.get(field), int) or raw[field] < 1:
            yield f"{field} = {raw.get(field)!r}; supported: a positive integer"
    for field, value in _SUPPORTED.items():
        if raw.get(field, value) != value:
            yield f"{field} = {raw[field]!r}; supported: {value!r}"
    rope_type = raw.get("rope_type", raw.get("type", "default"))
    if rope_type != "default":
        yield f"rope type = {rope_type!r}; supported: 'default'"
    if other := set(raw.get("layer_types") or ()) - {"full_attention"}:
        yield f"layer_types = {', '.join(sorted(other))}; supported: full_attention"


def family_of(config: DecoderConfig) -> str:
    """The `model_type` that computes what `config` says.

    Raises:
      ValueError: no family has this combination of biases and norms.
    """
    if config.qkv_bias and not config.o_bias and not config.qk_norm:
        return "qwen2"
    if config.qkv_bias != config.o_bias:
        raise ValueError(
            f"no Hugging Face family has qkv_bias={config.qkv_bias}, o_bias={config.o_bias}, qk_norm={config.qk_norm}"
        )
    return "qwen3" if config.qk_norm else "llama"


def write_config(
    config: DecoderConfig,
    folder: str | os.PathLike,
    *,
    dtype: str = "float32",
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
) -> None:
    """Write generation_config.json and config.json, as transformers 4 and 5 read them.

    Args:
      dtype: that the weights are stored in.
      eos_ids: every id that ends a completion.
      pad_id: the id of padding, if there is one.

    Raises:
      ValueError: see `family_of`; nothing is written.
    """
    family, sizes = family_of(config), dataclasses.asdict(config)
    ids = {"bos_token_id": None, "eos_token_id": list(eos_ids) or None, "pad_token_id": pad_id}
    raw = {
        "architectures": [_ARCHITECTURES[family]],
        "model_type": family,
        **{theirs: sizes[ours] for ours, theirs in _SIZES.items()},
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "attention_bias": config.o_bias,
        "max_position_embeddings": config.max_positions,
        "torch_dtype": dtype,
        **ids,
    }
    for name, content in (("generation_config.json", ids), ("config.json", raw)):
        unfinished = pathlib.Path(folder) / f"{name}.part"
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(unfinished.with_suffix(""))
