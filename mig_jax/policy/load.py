"""The policy as the application handles it: tokenizer, shape, weights on a mesh, and the log-probs it learns by."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from mig_jax import rewards
from mig_jax.config import Config, ModelConfig, ModelLoraConfig
from mig_jax.distributed import multihost, sharding
from mig_jax.learning.losses import Batch
from mig_jax.models import attention, decoder, lora, sampler
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.lora import LoraConfig
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.policy import images
from mig_jax.text import tokenizer as tokenizers

# The config of the run that made a model, in the model's folder; read by the commands when they are given no other.
RUN_CONFIG = "mig_jax_config.json"

# What a hub name is fetched for.
HUB_FILES = ("*.json", "*.safetensors", "*.jinja")


@dataclasses.dataclass(frozen=True)
class Policy:
    """A language model to sample from, to score with and to train.

    tokenizer: ids ↔ text, chat template, ids that end a completion.
    config: the decoder's shape, its vision tower's and its adapters'.
    mesh: the devices that the weights are laid out on.
    params: pytree of weights. A training run consumes them: their memory becomes that of its state.
    image_reader: images to arrays; None for a model of text alone.
    freeze_vision: the tower stays as it is.
    base: path or hub name of the weights that adapters adapt; "" for random ones.
    """

    tokenizer: tokenizers.Tokenizer
    config: decoder.DecoderConfig
    mesh: Mesh
    params: Any
    image_reader: images.ImageReader | None = None
    freeze_vision: bool = True
    base: str = ""

    def is_trainable(self, path: str) -> bool:
        """Does an update change the weight at this path, such as "layers/mlp/up"?"""
        if path.startswith("vision/"):
            return not self.freeze_vision
        return lora.is_adapter(path) or self.config.lora is None


def load_policy(model: ModelConfig, mesh: Mesh, *, seed: int) -> Policy:
    """The model of `config.model`: from a folder, a GGUF file or the hub, or with random weights.

    Adapters that the folder holds are trained further; `model.lora` is then for others.

    Args:
      seed: of random weights, and of adapters.

    Raises:
      ValueError: the model is not supported, or its files are damaged; everything wrong is listed.
    """
    path = find_model(model.path) if model.path else ""
    adapted = lora.base_of(path) if path else ""
    weights = find_model(adapted) if adapted else path
    # A folder of adapters alone need not hold the tokenizer.
    name = model.tokenizer or (path if os.path.exists(os.path.join(path, "tokenizer.json")) else weights)
    tokenizer = _load_tokenizer(name)
    if weights:
        config = _stored_config(weights, model, mesh)
        _check_vocabulary(tokenizer, config, name)
        params = hf_weights.load(weights, config, shardings=_param_shardings(config, mesh))
    else:
        config = _fresh_config(model, tokenizer, mesh)
        init = jax.jit(lambda key: decoder.init_params(config, key), out_shardings=_param_shardings(config, mesh))
        params = init(jax.random.key(seed))
    if adapted:
        config, params = lora.load_peft(path, config, params)
        params = jax.device_put(params, _param_shardings(config, mesh))
    elif model.lora.rank:
        config = _adapted_config(config, model.lora)
        params = _add_adapters(params, config, mesh, seed)
    warn_unsharded(config, mesh)
    reader = images.make_reader(config.vision, tokenizer, weights, model.vision) if config.vision else None
    base = adapted or (os.path.abspath(path) if os.path.exists(model.path) else model.path)
    return Policy(tokenizer, config, mesh, params, reader, model.vision.freeze, base)


def abstract_policy(model: ModelConfig, mesh: Mesh) -> Policy:
    """The policy that `load_policy` would load, with shapes and places for weights: only config.json is read.

    Its tokenizer stands in for the model's, whose special ids alone are compiled into a program.

    Raises:
      ValueError: the model is not supported; or it is a folder of adapters, whose shapes are in its weights.
    """
    path = find_model(model.path, files=("*config.json",)) if model.path else ""
    if path and lora.base_of(path):
        raise ValueError(f"{path} holds adapters: give the model that they adapt, and model.lora.rank")
    tokenizer = _load_tokenizer("characters" if path else model.tokenizer)
    config = _stored_config(path, model, mesh) if path else _fresh_config(model, tokenizer, mesh)
    if model.lora.rank:
        config = _adapted_config(config, model.lora)
    warn_unsharded(config, mesh)
    params = sharding.with_shardings(decoder.abstract_params(config), _param_shardings(config, mesh))
    return Policy(tokenizer, config, mesh, params, freeze_vision=model.vision.freeze, base=path)


def strip_adapters(policy: Policy) -> Policy:
    """The same, to be used with weights from which `lora.strip` has taken the adapters."""
    return dataclasses.replace(policy, config=dataclasses.replace(policy.config, lora=None))


def find_model(path: str, *, files: Sequence[str] = HUB_FILES) -> str:
    """Where the files of a model are: `path` itself, the model of the run in that folder, or a copy from the hub.

    Args:
      files: what is fetched from the hub.

    Raises:
      ValueError: there is no such folder, and no such name on the hub, or no network to reach it.
    """
    if os.path.exists(path):
        of_run = os.path.join(path, "model")
        is_run = not os.path.exists(os.path.join(path, "config.json")) and os.path.isdir(of_run)
        return of_run if is_run else path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(path, allow_patterns=list(files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"model.path={path!r} is neither a folder or file here nor to be had from the hub ({error}); give a folder "
            "in Hugging Face format, a .gguf file, the workdir of a run, or a name such as Qwen/Qwen2.5-0.5B-Instruct"
        ) from error


def _check_vocabulary(tokenizer: tokenizers.Tokenizer, config: decoder.DecoderConfig, name: str) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{name}: {tokenizer.vocab_size} tokens, of which the model knows {config.vocab_size}: take its own "
            "tokenizer (model.tokenizer='')"
        )


def _load_tokenizer(name: str) -> tokenizers.Tokenizer:
    return tokenizers.build_character_tokenizer() if name == "characters" else tokenizers.load(name)


def _stored_config(path: str, model: ModelConfig, mesh: Mesh) -> decoder.DecoderConfig:
    """The shape of the model in this folder or file."""
    read_config = gguf_file.read_config if gguf_file.is_gguf(path) else hf_config.read_config
    return dataclasses.replace(read_config(path), **_computed_in(model, mesh))


def _fresh_config(model: ModelConfig, tokenizer: tokenizers.Tokenizer, mesh: Mesh) -> decoder.DecoderConfig:
    """The shape of a model with random weights; with a vision tower when `init.vision.layers` says so."""
    shape = model.init.to_dict()
    vision = shape.pop("vision")
    tower = VisionConfig(**vision, **images.image_tokens(tokenizer)) if vision["layers"] else None
    computed = _computed_in(model, mesh)
    config = decoder.DecoderConfig(vocab_size=tokenizer.vocab_size, vision=tower, **shape, **computed)
    hf_config.family_of(config)  # what could not be saved at the end is refused now
    return config


def _computed_in(model: ModelConfig, mesh: Mesh) -> dict[str, Any]:
    platform = mesh.devices.flat[0].platform
    return {
        "dtype": model.compute_dtype,
        "param_dtype": model.param_dtype,
        "remat": model.remat,
        "attention": attention.choose_kernel(model.attention, platform=platform, dtype=model.compute_dtype),
    }


def _adapted_config(config: decoder.DecoderConfig, adapters: ModelLoraConfig) -> decoder.DecoderConfig:
    return dataclasses.replace(config, lora=LoraConfig(adapters.rank, adapters.alpha, tuple(adapters.modules)))


def _add_adapters(params: Any, config: decoder.DecoderConfig, mesh: Mesh, seed: int) -> Any:
    add = functools.partial(lora.add, config=config, key=jax.random.key(seed))
    return jax.jit(add, out_shardings=_param_shardings(config, mesh), donate_argnums=0)(params)


def warn_unsharded(config: decoder.DecoderConfig, mesh: Mesh) -> None:
    """Warn when `mesh.fsdp` does not divide the width: such parameters are replicated (`sharding.partition_spec`)."""
    if config.width % mesh.shape["fsdp"]:
        logging.warning(
            "mesh.fsdp=%d does not divide the model's width of %d: each chip holds weights and moments whole; take a "
            "divisor of it, and the rest as mesh.data",
            mesh.shape["fsdp"], config.width,
        )  # fmt: skip


def _param_shardings(config: decoder.DecoderConfig, mesh: Mesh) -> Any:
    return sharding.shardings(decoder.abstract_params(config), decoder.param_axes(config), mesh)


def save_policy(policy: Policy, params: Any, folder: str, *, config: Config) -> None:
    """Write weights, config and tokenizer as a folder in Hugging Face format, adapters merged into the weights.

    With `model.lora.save="adapter"` the adapters alone are written, in PEFT's format. The config of the run goes beside
    them, because a policy is best asked as it was trained: see `RUN_CONFIG`. All processes must call this; the first
    one writes.
    """
    tokenizer, shape = policy.tokenizer, policy.config
    if multihost.is_main_process():
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, RUN_CONFIG), "w", encoding="utf-8") as file:
            json.dump(config.to_dict(), file, indent=1)
        tokenizer.save(folder)
        if policy.image_reader:
            policy.image_reader.save(folder)
    if shape.lora and config.model.lora.save == "adapter":
        lora.save_peft(params, shape, folder, base=policy.base)
        return
    if shape.lora:
        params, shape = lora.merge(params, shape), dataclasses.replace(shape, lora=None)
    dtype = config.model.save_dtype or None
    hf_weights.save(params, shape, folder, dtype=dtype, eos_ids=tokenizer.eos_ids, pad_id=tokenizer.declared_pad_id)


def make_logprob_fn(policy: Policy, *, temperature: float, chunk: int) -> Callable:
    """Pure (params, batch) → log-prob and entropy `[B, T]` of the completions, in nats, at this temperature."""

    def logprobs(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        model = decoder.bind(policy.config, params)
        rows, slots = batch.token_bs.shape
        width = batch.full_mask_bt.shape[1]
        images = batch.images
        # Where there are pixels the tower is trained: what it made of them in the rollout carries no gradient.
        if images is not None and images.pixels is not None:
            images = images._replace(feature_qid=model.vision(images.pixels))
        position_bs, valid_bs = sampler.row_positions(batch.start_b, slots, images)
        # The last token predicts nothing, so it need not be computed.
        hidden_bsd, _ = model(
            batch.token_bs[:, :-1],
            position_bs[:, :-1],
            valid_bs[:, :-1],
            features=sampler.row_features(images, rows, slots - 1),
        )
        unembed_pdv = sharding.copy_per_batch_shard(model.unembed_dv(), ("embed", "vocab"), rows)

        def one_row(hidden_td, unembed_dv, target_t):
            return rewards.token_logprobs(hidden_td, unembed_dv, target_t, temperature=temperature, chunk=chunk)

        def part(x_bt):
            return x_bt.reshape(len(unembed_pdv), -1, *x_bt.shape[1:])

        one_part = jax.vmap(one_row, in_axes=(0, None, 0))
        found_pbt = jax.vmap(one_part)(part(hidden_bsd[:, -width:]), unembed_pdv, part(batch.token_bs[:, -width:]))
        return jax.tree.map(lambda x_pbt: x_pbt.reshape(rows, width), found_pbt)

    return logprobs
