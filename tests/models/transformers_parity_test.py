"""Where torch is installed: transformers and the decoder read each other's folders and agree on the logits."""

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import decoder, hf_config, hf_weights

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from tests.models import make_reference  # noqa: E402


@pytest.fixture(params=make_reference.CONFIGS)
def model(request):
    return make_reference.make_model(make_reference.CONFIGS[request.param], seed=3)


def our_logits(folder, token_bt, position_bt):
    config = hf_config.read_config(folder)
    ours = decoder.bind(config, hf_weights.load(folder, config))
    mask_btt = decoder.causal_mask(jnp.ones(token_bt.shape, bool))
    hidden_btd, _ = ours(jnp.array(token_bt), jnp.array(position_bt), mask_btt)
    return jnp.einsum("btd,dv->btv", hidden_btd, ours.unembed_dv())


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_we_read_what_transformers_saves(model, shard_size, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors").exists() == (shard_size == "1GB")
    inputs = make_reference.sample_inputs(seed=4)
    np.testing.assert_allclose(our_logits(tmp_path, *inputs), make_reference.logits_of(model, *inputs), atol=2e-5)


def test_transformers_reads_what_we_save(model, tmp_path):
    model.save_pretrained(tmp_path / "theirs")
    config = hf_config.read_config(tmp_path / "theirs")
    hf_weights.save(hf_weights.load(tmp_path / "theirs", config), config, tmp_path / "ours", eos_ids=(5, 6), pad_id=7)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    for name, want in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], want), name
    assert type(again) is type(model) and again.config.dtype == torch.float32
    assert again.generation_config.eos_token_id == [5, 6] and again.generation_config.pad_token_id == 7
    inputs = make_reference.sample_inputs(seed=4)
    np.testing.assert_array_equal(make_reference.logits_of(again, *inputs), make_reference.logits_of(model, *inputs))
