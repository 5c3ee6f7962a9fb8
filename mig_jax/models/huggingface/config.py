"""config.json of a Hugging Face folder to `DecoderConfig`, and back; what the decoder does not compute is refused."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from mig_jax.models import rope
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface import validation, vision_config
from mig_jax.models.huggingface.validation import SIZES, rope_of

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    vision_config.FAMILY: "Qwen2_5_VLForConditionalGeneration",
}


def read_config(folder: str | os.PathLike) -> DecoderConfig:
    """The config of a Llama, Qwen2, Qwen2.5, Qwen2.5-VL or Qwen3 folder, as transformers 4 or 5 writes it.

    Raises:
      ValueError: config.json is missing or broken, asks for what the decoder does not compute, or lacks a size; all of
        it is listed.
    """
    file = pathlib.Path(folder) / "config.json"
    raw = read_json(file)
    family = raw.get("model_type")
    families = tuple(_ARCHITECTURES)
    problems = [] if family in families else [validation.family_problem(family, families)]
    text, text_family, vision_problems = raw, family, []
    if family == vision_config.FAMILY:
        text, text_family = vision_config.text_part(raw), "qwen2"
        vision_problems = vision_config.vision_problems(raw)
    if problems := [*problems, *validation.text_problems(text, text_family), *vision_problems]:
        raise ValueError(f"{file}: not a model that the decoder runs:\n  " + "\n  ".join(problems))
    seen = vision_config.vision_fields(raw) if family == vision_config.FAMILY else {}
    return DecoderConfig(**text_fields(text, text_family), **seen)


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ValueError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; a model is a folder in Hugging Face format") from None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}); a damaged or unfinished copy?") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds {type(content).__name__}, not an object of fields; a damaged copy?")
    return content


def text_fields(raw: dict[str, Any], family: str) -> dict[str, Any]:
    """What `raw`, in which nothing is to be refused, says of the text decoder of a `family`: fields of its config."""
    parameters, biased, heads = rope_of(raw), raw.get("attention_bias") or False, raw["num_attention_heads"]
    default_head_size = 128 if family == "qwen3" else raw["hidden_size"] // heads
    default_positions = 2048 if family == "llama" else 32_768
    return {
        **{ours: raw[theirs] for ours, theirs in SIZES.items()},
        "kv_heads": raw.get("num_key_value_heads") or heads,
        "head_size": raw.get("head_dim") or default_head_size,
        "rope_theta": float(parameters["rope_theta"]),
        "rope_scaling": validation.scaling_of(parameters),
        "norm_eps": raw.get("rms_norm_eps", 1e-6),
        "tied_head": raw.get("tie_word_embeddings") or False,
        "qkv_bias": biased or family == "qwen2",
        "o_bias": biased and family != "qwen2",
        "qk_norm": family == "qwen3",
        "max_positions": raw.get("max_position_embeddings") or default_positions,
    }


def family_of(config: DecoderConfig) -> str:
    """The `model_type` that computes what `config` says.

    Raises:
      ValueError: no family has this combination of biases and norms.
    """
    if config.vision:
        if problem := vision_config.why_not_stored(config):
            raise ValueError(f"{vision_config.FAMILY}, the family that sees, does not have {problem}")
        return vision_config.FAMILY
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
    family, text = family_of(config), raw_text_fields(config)
    ids = {"bos_token_id": None, "eos_token_id": list(eos_ids) or None, "pad_token_id": pad_id}
    raw = {
        "architectures": [_ARCHITECTURES[family]],
        "model_type": family,
        **text,
        **(vision_config.raw_vision_fields(config, text.get("rope_scaling")) if config.vision else {}),
        "torch_dtype": dtype,
        **ids,
    }
    for name, content in (("generation_config.json", ids), ("config.json", raw)):
        unfinished = pathlib.Path(folder) / f"{name}.part"
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(unfinished.with_suffix(""))


def raw_text_fields(config: DecoderConfig) -> dict[str, Any]:
    """What config.json says of the text decoder; `text_fields` read backwards."""
    values = vars(config)
    return {
        **{theirs: values[ours] for ours, theirs in SIZES.items()},
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        **({"rope_scaling": raw_scaling(config.rope_scaling)} if config.rope_scaling else {}),
        "tie_word_embeddings": config.tied_head,
        "attention_bias": config.o_bias,
        "max_position_embeddings": config.max_positions,
    }


def raw_scaling(scaling: rope.RopeScaling) -> dict[str, Any]:
    """The `rope_scaling` of config.json: the fields that its kind reads."""
    values = dataclasses.asdict(scaling)
    names = sum(rope.FIELDS[scaling.kind], ())
    return {"rope_type": scaling.kind, **{name: values[name] for name in names if values[name] is not None}}
