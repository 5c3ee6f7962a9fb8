"""Save policies as folders in Hugging Face format, or their adapters in PEFT's."""

import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp

from mig_jax import parts
from mig_jax.config import Config
from mig_jax.distributed import multihost, sharding
from mig_jax.errors import UserError
from mig_jax.models import families, lora
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import peft
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy.load import RUN_CONFIG, Policy


def save_policy(policy: Policy, params: Any, folder: str, *, config: Config) -> None:
    """Write parameters, config and tokenizer as a folder in Hugging Face format, adapters merged.

    With `model.lora.save="adapter"`, write the adapters alone, in PEFT's format. The files of the tokenizer and of the
    image processor are those of the base model, and so are generation_config.json and what config.json holds besides
    the shape. The run's config is saved beside them (`RUN_CONFIG`), so that commands prompt the model the way it was
    trained, and copies of the files with the user's parts. Call it on all processes; the main one writes.

    Raises:
      UserError: parameters are not finite; lists them. Nothing is written.
    """
    _check_finite(params)
    tokenizer, shape, origin = policy.tokenizer, policy.config, policy.origin
    ids: dict[str, Any] = {"eos_ids": tokenizer.eos_ids, "pad_id": tokenizer.declared_pad_id}
    if multihost.is_main_process():
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, RUN_CONFIG), "w", encoding="utf-8") as file:
            json.dump(config.to_dict(), file, indent=1)
        parts.save_copies(config, os.path.join(folder, parts.FOLDER))
        tokenizer.save(folder)
        if policy.image_reader:
            policy.image_reader.save(folder)
    if shape.lora and config.model.lora.save == "adapter":
        if multihost.is_main_process():
            hf_config.write_generation_config(folder, base=origin.generation, **ids)
        peft.save(params, shape, folder, base=policy.base, base_has_tower=families.has_tower(origin.config))
        return
    if shape.lora:
        params, shape = lora.merge(params, shape), dataclasses.replace(shape, lora=None)
    hf_weights.save(params, shape, folder, dtype=config.model.save_dtype or None, origin=origin, **ids)


def _check_finite(params: Any) -> None:
    is_finite = jax.jit(lambda params: jax.tree.map(lambda x: jnp.isfinite(x).all(), params))(params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(sharding.to_host(is_finite))
    wrong = [jax.tree_util.keystr(path, simple=True, separator="/") for path, finite in leaves if not finite]
    if wrong:
        raise UserError(f"the model is not saved, because these parameters are not finite: {', '.join(wrong)}")
