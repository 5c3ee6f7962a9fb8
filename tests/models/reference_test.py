"""The decoder reproduces stored logits of transformers; `tools/make_reference.py` made them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import decoder
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights

FOLDER = pathlib.Path(__file__).parent / "reference"
NAMES = [
    "llama",
    "llama_biased",
    "llama_llama3",
    "qwen2",
    "qwen2_untied",
    "qwen2_yarn",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "gemma3",
    "mistral",
]


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_transformers(name):
    folder = FOLDER / name
    config = hf_config.read_config(folder)
    with np.load(folder / "logits.npz") as file:
        token_bt, position_bt, want_btv = (file[name] for name in ("token_bt", "position_bt", "logits_btv"))

    @jax.jit
    def logits(params, *rows):
        model = decoder.bind(config, params)
        return jnp.einsum("btd,dv->btv", model(*rows)[0], model.unembed_dv())

    logits_btv = logits(hf_weights.load(folder, config), token_bt, position_bt, np.ones(token_bt.shape, bool))
    np.testing.assert_allclose(logits_btv, want_btv, atol=2e-5)
