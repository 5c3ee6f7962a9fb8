"""The policy as the application handles it: tokenizer, shape, weights on a mesh, and pure functions of the weights."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import chex
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mig_jax import rewards
from mig_jax.learning.losses import Batch
from mig_jax.models import decoder, hf_config, hf_weights, sampler, sharding
from mig_jax.text import tokenizer as tokenizers

# The config of the run that made a model, in the model's folder; read by the commands when they are given no other.
RUN_CONFIG = "mig_jax_config.json"


@dataclasses.dataclass(frozen=True)
class Policy:
    """A language model to sample from, to score with and to train.

    tokenizer: ids ↔ text, chat template, ids that end a completion.
    config: the decoder's shape.
    mesh: the devices that the weights are laid out on.
    params: pytree of weights. A training run consumes them: their memory becomes that of its state.
    """

    tokenizer: tokenizers.Tokenizer
    config: decoder.DecoderConfig
    mesh: Mesh
    params: Any


def load_policy(model: ConfigDict, mesh: Mesh, *, seed: int) -> Policy:
    """The model of `config.model`: from a folder in Hugging Face format, or with random weights.

    Raises:
      ValueError: the folder holds a model that is not supported, or damaged weights; everything wrong is listed.
    """
    name = model.tokenizer or model.path
    tokenizer = tokenizers.build_character_tokenizer() if name == "characters" else tokenizers.load(name)
    compute = {"dtype": model.compute_dtype, "remat": model.remat}
    if model.path:
        config = dataclasses.replace(hf_config.read_config(model.path), **compute)
        params = hf_weights.load(model.path, config, shardings=_param_shardings(config, mesh))
    else:
        config = decoder.DecoderConfig(vocab_size=tokenizer.vocab_size, **model.init, **compute)
        hf_config.family_of(config)  # what could not be saved at the end is refused now
        init = jax.jit(lambda key: decoder.init_params(config, key), out_shardings=_param_shardings(config, mesh))
        params = init(jax.random.key(seed))
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"{name}: {tokenizer.vocab_size} tokens, of which the model knows {config.vocab_size}")
    return Policy(tokenizer, config, mesh, params)


def _param_shardings(config: decoder.DecoderConfig, mesh: Mesh) -> Any:
    return sharding.shardings(decoder.abstract_params(config), decoder.param_axes(config), mesh)


def save_policy(policy: Policy, params: Any, folder: str, *, config: ConfigDict) -> None:
    """Write weights, config and tokenizer as a folder in Hugging Face format.

    The config of the run goes beside them, because a policy is best asked as it was trained: see `RUN_CONFIG`.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, RUN_CONFIG), "w", encoding="utf-8") as file:
        json.dump(config.to_dict(), file, indent=1)
    policy.tokenizer.save(folder)
    hf_weights.save(params, policy.config, folder, eos_ids=policy.tokenizer.eos_ids, pad_id=policy.tokenizer.pad_id)


def make_sample(policy: Policy, *, group_size: int, max_new_tokens: int, temperature: float) -> Callable:
    """Compiled (params, prompt_qs, start_q, key) → `sampler.Completions`."""

    @jax.jit
    def sample(params, prompt_qs, start_q, key):
        model = decoder.bind(policy.config, params)
        return sampler.sample(
            model,
            model.unembed_dv(),
            prompt_qs,
            start_q,
            key,
            group_size=group_size,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            stop_ids=policy.tokenizer.eos_ids,
            pad_id=policy.tokenizer.pad_id,
        )

    return sample


def make_logprobs(policy: Policy, *, temperature: float, chunk: int) -> Callable:
    """Pure (params, batch) → log-prob and entropy `[B, T]` of the completions, in nats, at this temperature."""

    def logprobs(params: Any, batch: Batch) -> tuple[chex.Array, chex.Array]:
        model = decoder.bind(policy.config, params)
        width = batch.full_mask_bt.shape[1]
        position_bs, valid_bs = sampler.row_positions(batch.start_b, batch.token_bs.shape[1])
        # The last token predicts nothing, so it need not be computed.
        hidden_bsd, _ = model(batch.token_bs[:, :-1], position_bs[:, :-1], decoder.causal_mask(valid_bs[:, :-1]), None)
        unembed_dv = model.unembed_dv()

        def one_row(hidden_td, target_t):
            return rewards.token_logprobs(hidden_td, unembed_dv, target_t, temperature=temperature, chunk=chunk)

        return jax.vmap(one_row)(hidden_bsd[:, -width:], batch.token_bs[:, -width:])

    return logprobs
