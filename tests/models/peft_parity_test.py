"""Where torch and peft are installed: our adapters are PEFT's, and PEFT's are ours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import decoder, hf_config, hf_weights, lora
from mig_jax.models.lora import LoraConfig

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from tests.models import make_reference  # noqa: E402

# PEFT asks transformers for what it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

FAMILIES = ("qwen2", "llama_biased", "qwen3")
INPUTS = make_reference.sample_inputs(seed=4)


@pytest.fixture(params=FAMILIES)
def base(request, tmp_path):
    """transformers' model, its folder, and our config and parameters of it."""
    theirs = make_reference.make_model(make_reference.CONFIGS[request.param], seed=3)
    theirs.save_pretrained(tmp_path / "base")
    config = hf_config.read_config(tmp_path / "base")
    return theirs, str(tmp_path / "base"), config, hf_weights.load(tmp_path / "base", config)


def our_logits(config, params):
    token_bt, position_bt = map(jnp.array, INPUTS)
    model = decoder.bind(config, params)
    hidden_btd, _ = model(token_bt, position_bt, decoder.causal_mask(jnp.ones(token_bt.shape, bool)))
    return jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv())


@pytest.mark.parametrize("modules", [("query", "out", "up"), ("key", "value", "gate", "down")])
def test_peft_reads_what_we_save(base, modules, tmp_path):
    theirs, folder, config, params = base
    plain = make_reference.logits_of(theirs, *INPUTS)
    config = dataclasses.replace(config, lora=LoraConfig(3, 6.0, modules))
    params = lora.add(params, config, jax.random.key(0))
    drawn = jax.tree_util.tree_map_with_path(_stir, params)
    lora.save_peft(drawn, config, tmp_path / "adapter", folder)
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    found = our_logits(config, drawn)
    np.testing.assert_allclose(found, make_reference.logits_of(adapted, *INPUTS), atol=1e-4)
    assert np.abs(found - plain).max() > 0.1
    merged = our_logits(dataclasses.replace(config, lora=None), lora.merge(drawn, config))
    np.testing.assert_allclose(merged, found, atol=1e-4)


def test_we_read_what_peft_saves(base, tmp_path):
    theirs, folder, config, params = base
    theirs_config = peft.LoraConfig(
        r=4, lora_alpha=3, target_modules=["q_proj", "o_proj", "gate_proj", "down_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(theirs, theirs_config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    config, params = lora.load_peft(tmp_path / "adapter", config, params)
    assert config.lora == LoraConfig(4, 3.0, ("query", "out", "gate", "down"))
    assert lora.base_of(tmp_path / "adapter") == folder
    np.testing.assert_allclose(our_logits(config, params), make_reference.logits_of(adapted, *INPUTS), atol=1e-4)


def test_what_we_do_not_compute_is_refused(base, tmp_path):
    theirs, _, config, params = base
    peft.get_peft_model(theirs, peft.LoraConfig(target_modules=["q_proj"], use_dora=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_dora=True: is not supported"):
        lora.load_peft(tmp_path, config, params)


def _stir(path, x):
    """B of an adapter as if trained."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return 0.2 * jax.random.normal(jax.random.key(len(name)), x.shape) if name.endswith("_lora_b") else x
