"""Model families: how the config.json and the tensor names of each `model_type` map to the decoder.

Lives here: one file per family with its `FAMILY`. What families share is in `family` (fields of a text decoder),
`text_errors` and `known_fields` (fields that are refused, or change nothing), `rope_fields`, `vision_fields` and
`decoder_tensors`. `unsupported` names other families with the reason. A new family is one file and one line of
`FAMILIES`. Nothing here touches files: `huggingface/` reads and writes them.
May import: `models/` (the decoder, its rope and vision tower) and `errors`.
Main names: `FAMILIES`, `decoder_config` with `config_errors`, `raw_config` with `family_of`.
"""

from collections.abc import Mapping
from typing import Any

from mig_jax.errors import UserError
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families import (
    gemma3,
    llama,
    mimo,
    mistral,
    qwen2,
    qwen2_5_vl,
    qwen3,
    qwen3_moe,
    qwen3_vl,
    seed_oss,
    smollm3,
)
from mig_jax.models.families.family import Family
from mig_jax.models.families.unsupported import UNSUPPORTED

# `model_type` → family. A config that several families can store is written as the first of them.
FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "qwen3_moe": qwen3_moe.FAMILY,
    "qwen2_5_vl": qwen2_5_vl.FAMILY,
    "qwen3_vl": qwen3_vl.FAMILY,
    "mistral": mistral.FAMILY,
    "seed_oss": seed_oss.FAMILY,
    "smollm3": smollm3.FAMILY,
    "mimo": mimo.FAMILY,
    "gemma3_text": gemma3.FAMILY,
    "gemma3": gemma3.FAMILY_WITH_TOWER,
}


def config_errors(raw: dict[str, Any]) -> list[str]:
    """Return every field of config.json that the decoder does not support, with what would be supported.

    If the family itself is unknown, only that is returned: its other fields follow from it.
    """
    model_type = raw.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return list(dict.fromkeys(FAMILIES[model_type].errors(raw)))
    return [f"model_type = {model_type!r}{reason_of(model_type)}; supported: {', '.join(FAMILIES)}"]


def reason_of(model_type: Any) -> str:
    """Return " (REASON)": what an unsupported family has that the decoder does not compute; "" if unknown."""
    if not isinstance(model_type, str):
        return ""
    reason = UNSUPPORTED.get(model_type)
    if reason is None and ("moe" in model_type or model_type.startswith("deepseek_v")):
        reason = "a mixture of experts"
    return f" ({reason})" if reason else ""


def decoder_config(raw: dict[str, Any]) -> DecoderConfig:
    """Return the decoder config for a config.json in which `config_errors` has found none."""
    return DecoderConfig(**FAMILIES[raw["model_type"]].read(raw))


def has_tower(raw: Mapping[str, Any]) -> bool:
    """Return whether a config.json is that of a model with a vision tower, whether the tower is read or not."""
    family = FAMILIES.get(str(raw.get("model_type")))
    return family is not None and (family.has_vision or family.has_unread_tower)


def raw_config(config: DecoderConfig, *, preferred: str = "") -> dict[str, Any]:
    """Return config.json for `config`: the inverse of `decoder_config`.

    Args:
      config: to write.
      preferred: see `family_of`.

    Raises:
      UserError: see `family_of`.
    """
    model_type = family_of(config, preferred=preferred)
    family = FAMILIES[model_type]
    return {"architectures": [family.architecture], "model_type": model_type, **family.write(config)}


def family_of(config: DecoderConfig, *, preferred: str = "") -> str:
    """Return the `model_type` of `preferred`, or else of the first family, that can store `config`.

    Args:
      config: to store.
      preferred: `model_type` of the model that this one was trained from, if it is known.

    Raises:
      UserError: no family has this combination of biases, norms and vision tower.
    """
    written = {name: family for name, family in FAMILIES.items() if family.is_written}
    candidates = {name: family for name, family in written.items() if family.has_vision == bool(config.vision)}
    reasons = {name: family.storage_error(config) for name, family in candidates.items()}
    for model_type in (preferred, *reasons):
        if reasons.get(model_type, "unknown") is None:
            return model_type
    different = dict.fromkeys(map(str, reasons.values()))
    raise UserError(f"no Hugging Face family ({', '.join(reasons)}) has {'; '.join(different)}")
