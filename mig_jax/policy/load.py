"""Load policies: Hugging Face folders, GGUF files, hub names, run folders, random parameters."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mig_jax.config import Config, ModelConfig, ModelLoraConfig
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder, families, kernel_choice, lora, remat
from mig_jax.models.experts import ExpertsConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import peft
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.huggingface.origin import Origin, read_origin
from mig_jax.models.lora import LoraConfig
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.policy import images
from mig_jax.policy.finite import find_non_finite
from mig_jax.text import hub, tokenizer_files
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.step_format import MIG, StepFormat

# In a saved model's folder: the config of the run that made it. Commands read it when no --config is given.
RUN_CONFIG = "mig_jax_config.json"

# Files of a model to download from the hub.
HUB_FILES = ("*.json", "*.safetensors", "README.md", *tokenizer_files.PATTERNS)


@dataclasses.dataclass(frozen=True)
class Policy:
    """A language model to sample from, to score with and to train.

    tokenizer: text to ids and back, the chat template, the ids that end a completion.
    config: shape of the decoder, of its vision tower and of its adapters.
    mesh: devices that hold the parameters.
    params: pytree of arrays. A training run donates them to its state, so they are unusable afterwards.
    image_reader: turns images into arrays; None for a text-only model.
    freeze_vision: the vision tower is not trained.
    base: path or hub name of the model that the parameters come from, or that adapters were added to; "" for random
      parameters.
    origin: what a saved model takes over from that model.
    run_config: how to prompt, sample and score, if it was loaded from Python (`api.load_policy`); else None.
    """

    tokenizer: tokenizers.Tokenizer
    config: decoder.DecoderConfig
    mesh: Mesh
    params: Any
    image_reader: images.ImageReader | None = None
    freeze_vision: bool = True
    base: str = ""
    origin: Origin = Origin()
    run_config: Config | None = None

    def __repr__(self) -> str:
        n_parameters = sum(x.size for x in jax.tree.leaves(self.params))
        place = f"{self.mesh.size} × {self.mesh.devices.flat[0].device_kind}"
        return f"<Policy {self.base or 'with random parameters'}: {n_parameters:,} parameters, on {place}>"

    @functools.cached_property
    def is_token_v(self) -> np.ndarray | None:
        """`[V]` bool, whether each row of the model's output matrix is a token; None if all are.

        Rows beyond the tokenizer's vocabulary, which pad the matrix, and ids without bytes are not. They read as
        nothing, so they must have probability 0 wherever the policy samples or scores.
        """
        is_token_v = np.zeros(self.config.vocab_size, bool)
        known = self.tokenizer.token_bytes[: self.config.vocab_size]
        is_token_v[: len(known)] = [len(token) > 0 for token in known]
        is_token_v[[id for id in self.tokenizer.eos_ids if id < len(is_token_v)]] = True
        return None if is_token_v.all() else is_token_v

    def is_trainable(self, path: str) -> bool:
        """Return whether updates change the parameter at `path`, such as "layers/mlp/up"."""
        if path.startswith("vision/"):
            return not self.freeze_vision
        return lora.is_adapter(path) or self.config.lora is None


def load_policy(model: ModelConfig, mesh: Mesh, *, seed: int, format: StepFormat = MIG) -> Policy:
    """Load the model of `config.model`, or draw random parameters when `model.path` is empty.

    Adapters found in the folder are trained further; `model.lora` describes new ones.

    Args:
      model: the section `model` of a config.
      mesh: devices to put the parameters on.
      seed: seed of random parameters and of new adapters.
      format: of the responses.

    Raises:
      UserError: the model is not supported or its files are damaged; lists every reason.
    """
    path = find_model(model.path) if model.path else ""
    adapted = peft.find_base(path) if path else None
    base_path = find_model(adapted, key=f"base_model_name_or_path in {path}") if adapted else path
    # A folder that holds only adapters may lack the tokenizer.
    own = path if os.path.exists(os.path.join(path, "tokenizer.json")) else base_path
    name = _find_tokenizer(model.tokenizer) or own
    tokenizer = _load_tokenizer(name, model_folder=base_path if adapted else "", eos=model.eos.split(), format=format)
    if base_path:
        config = _stored_config(base_path, model, mesh)
        tokenizer = tokenizer.limit_to(config.vocab_size)
        if model.lora.rank and not adapted:
            _adapted_config(config, model.lora)  # refuse before parameters are loaded
        params = hf_weights.load(base_path, config, shardings=_param_shardings(config, mesh))
    else:
        config = _random_config(model, tokenizer, mesh)
        init = jax.jit(lambda key: decoder.init_params(config, key), out_shardings=_param_shardings(config, mesh))
        params = init(jax.random.key(seed))
    if adapted:
        config, params = peft.load(path, config, params)
        params = jax.device_put(params, _param_shardings(config, mesh))
    if wrong := find_non_finite(params) if base_path else []:
        raise UserError(f"{path} cannot be used: it has NaN or infinity in {', '.join(wrong)}")
    if not adapted and model.lora.rank:
        config = _adapted_config(config, model.lora)
        params = _add_adapters(params, config, mesh, seed)
    warn_unsharded(config, mesh)
    reader = images.make_reader(config.vision, tokenizer, base_path, model.vision) if config.vision else None
    base = adapted or (os.path.abspath(path) if os.path.exists(model.path) else model.path)
    origin = _read_origin(base_path, has_other_tokenizer=bool(model.tokenizer))
    return Policy(tokenizer, config, mesh, params, reader, model.vision.freeze, base, origin)


def abstract_policy(model: ModelConfig, mesh: Mesh) -> Policy:
    """Return what `load_policy` would load, with shapes and shardings in place of arrays.

    Reads config.json alone. The tokenizer is a stand-in: compiled programs depend only on its special ids, and on
    whether some rows of the output matrix are no tokens (as in most published models).

    Raises:
      UserError: the model is not supported, or the folder holds adapters (their shapes are in their tensor files).
    """
    path = find_model(model.path, files=("*config.json",)) if model.path else ""
    if path and peft.find_base(path):
        raise UserError(f"{path} holds adapters: give the model they belong to (--model) and set model.lora.rank")
    tokenizer = _load_tokenizer("characters" if path else _find_tokenizer(model.tokenizer))
    config = _stored_config(path, model, mesh) if path else _random_config(model, tokenizer, mesh)
    if model.lora.rank:
        config = _adapted_config(config, model.lora)
    warn_unsharded(config, mesh)
    params = sharding.with_shardings(decoder.abstract_params(config), _param_shardings(config, mesh))
    return Policy(tokenizer, config, mesh, params, freeze_vision=model.vision.freeze, base=path)


def check_run_lengths(policy: Policy, config: Config) -> None:
    """Check that the model has positions for the longest prompt with the longest completion of a run.

    Raises:
      UserError: it has fewer.
    """
    prompt, completion = config.data.max_prompt_tokens, config.rollout.max_new_tokens
    keys = f"data.max_prompt_tokens={prompt} plus rollout.max_new_tokens={completion}"
    check_positions(policy, prompt + completion, of=keys, advice="lower one of the two")


def check_positions(policy: Policy, length: int, *, of: str, advice: str) -> None:
    """Check that the model has positions for a sequence of `length` tokens.

    Args:
      policy: the model.
      length: of a prompt with its completion, in tokens.
      of: what has this length, for the message.
      advice: what to do about it, for the message.

    Raises:
      UserError: it has fewer.
    """
    limit = policy.config.max_positions
    if length > limit:
        raise UserError(
            f"{of} is {length} tokens, but the model has only {limit} positions (max_position_embeddings in its "
            f"config.json, context_length in a GGUF file): {advice}"
        )


def strip_adapters(policy: Policy) -> Policy:
    """Return the policy for parameters from which `lora.strip` has removed the adapters."""
    return dataclasses.replace(policy, config=dataclasses.replace(policy.config, lora=None))


def find_model(path: str, *, files: Sequence[str] = HUB_FILES, key: str = "model.path") -> str:
    """Return where a model's files are: `path`, the `model/` folder of the run in it, or a download from the hub.

    Args:
      path: folder, .gguf file, workdir of a run, or hub name.
      files: patterns of the files to download.
      key: what names the model, for the message.

    Raises:
      UserError: no such folder, no such name on the hub, or no network.
    """
    if os.path.exists(path):
        run_model = os.path.join(path, "model")
        is_run = not os.path.exists(os.path.join(path, "config.json")) and os.path.isdir(run_model)
        return run_model if is_run else path
    try:
        return hub.download(path, patterns=files)
    except UserError as error:
        raise UserError(
            f"{key}={path!r} is no local folder or file, and the hub does not provide it ({error}). Give a folder "
            "in Hugging Face format, a .gguf file, the workdir of a run, or a name such as Qwen/Qwen2.5-0.5B-Instruct"
        ) from error


def find_run_config(path: str) -> str | None:
    """Return the config file of the run that made a model, or None.

    Args:
      path: the model's folder, or the workdir of its run.
    """
    folders = (path, os.path.join(path, "model")) if path else ()
    files = (os.path.join(folder, RUN_CONFIG) for folder in folders)
    return next((file for file in files if os.path.isfile(file)), None)


def _find_tokenizer(name: str) -> str:
    """Return where a tokenizer is: a path with `~` expanded, the `model/` folder of the run in it, or the name."""
    path = os.path.expanduser(name)
    run_model = os.path.join(path, "model")
    return run_model if name and os.path.isfile(os.path.join(run_model, "tokenizer.json")) else path


def _load_tokenizer(
    name: str, *, model_folder: str = "", eos: Sequence[str] = (), format: StepFormat = MIG
) -> tokenizers.Tokenizer:
    if name == "characters" and eos:
        raise UserError(f"model.eos={' '.join(eos)!r}: completions of the character tokenizer end with '<|im_end|>'")
    if name == "characters":
        return tokenizers.build_character_tokenizer(format=format)
    return tokenizers.load(name, model_folder=model_folder, eos=eos, format=format)


def _read_origin(base_path: str, *, has_other_tokenizer: bool) -> Origin:
    """Return what a saved model takes over from the model at `base_path`, if there is one."""
    origin = read_origin(base_path) if base_path else Origin()
    return origin.without_token_ids() if has_other_tokenizer else origin


def _stored_config(path: str, model: ModelConfig, mesh: Mesh) -> decoder.DecoderConfig:
    """Read the shape of the model in a folder or file."""
    read_config = gguf_file.read_config if gguf_file.is_gguf(path) else hf_config.read_config
    config = read_config(path)
    return dataclasses.replace(config, **_compute_options(model, mesh, config.head_size))


def _random_config(model: ModelConfig, tokenizer: tokenizers.Tokenizer, mesh: Mesh) -> decoder.DecoderConfig:
    """Return the shape of a model with random parameters.

    It has a vision tower if `init.vision.layers` > 0, and a mixture of experts if `init.experts.count` > 0.
    """
    shape = model.init.to_dict()
    sizes: dict[str, int] = shape.pop("experts")
    experts = ExpertsConfig(**sizes, is_normalized=True) if sizes["count"] else None
    vision: dict[str, Any] = shape.pop("vision")
    tokens: dict[str, Any] = images.image_tokens(tokenizer) if vision["layers"] else {}
    tower = VisionConfig(**vision, **tokens) if vision["layers"] else None
    options = _compute_options(model, mesh, shape["head_size"])
    config = decoder.DecoderConfig(vocab_size=tokenizer.vocab_size, experts=experts, vision=tower, **shape, **options)
    families.family_of(config)  # refuse now what could not be saved at the end
    return config


def _compute_options(model: ModelConfig, mesh: Mesh, head_size: int) -> dict[str, Any]:
    """Return the fields of `DecoderConfig` that say how the model is computed."""
    device, dtype = mesh.devices.flat[0], model.compute_dtype
    warn_no_bfloat16(model, device)
    return {
        "dtype": dtype,
        "param_dtype": model.param_dtype,
        "remat": model.remat or remat.default_policy(device),
        "attention": kernel_choice.choose_kernel(model.attention, device=device, dtype=dtype, head_size=head_size),
    }


def warn_no_bfloat16(model: ModelConfig, device: Any) -> None:
    """Warn when activations are bfloat16 and the GPU has no units for it: XLA then converts around every operation."""
    if model.compute_dtype == "bfloat16" and kernel_choice.lacks_bfloat16(device):
        logging.warning(
            "model.compute_dtype=bfloat16, but %s has no bfloat16 units: every operation is emulated, which is slower "
            "and less exact than float32. Set model.compute_dtype=float32, or use a GPU of compute capability 8.0 or "
            "newer (A100, L4, H100)",
            kernel_choice.describe_device(device),
        )


def _adapted_config(config: decoder.DecoderConfig, adapters: ModelLoraConfig) -> decoder.DecoderConfig:
    return dataclasses.replace(config, lora=LoraConfig(adapters.rank, adapters.alpha, tuple(adapters.modules)))


def _add_adapters(params: Any, config: decoder.DecoderConfig, mesh: Mesh, seed: int) -> Any:
    add = functools.partial(lora.add, config=config, key=jax.random.key(seed))
    return jax.jit(add, out_shardings=_param_shardings(config, mesh), donate_argnums=0)(params)


def warn_unsharded(config: decoder.DecoderConfig, mesh: Mesh) -> None:
    """Warn when a mesh axis does not divide what it splits: such parameters are replicated (`partition_spec`)."""
    if config.width % mesh.shape["fsdp"]:
        logging.warning(
            "mesh.fsdp=%d does not divide the model's width of %d, so every chip holds all parameters and moments; "
            "choose a divisor, and put the remaining devices into mesh.data",
            mesh.shape["fsdp"], config.width,
        )  # fmt: skip
    if config.experts and config.experts.count % mesh.shape["tensor"]:
        logging.warning(
            "mesh.tensor=%d does not divide the %d experts, so each of its chips holds and computes all of them",
            mesh.shape["tensor"], config.experts.count,
        )  # fmt: skip


def _param_shardings(config: decoder.DecoderConfig, mesh: Mesh) -> Any:
    return sharding.shardings(decoder.abstract_params(config), decoder.param_axes(config), mesh)
