"""Adapters equal those of PEFT: logits, and saved folders in both directions. Needs torch and peft."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.errors import UserError
from mig_jax.models import decoder, lora
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import peft as hf_peft
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.lora import LoraConfig

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402

from tools import make_reference, make_vision_reference  # noqa: E402

# PEFT uses names that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

FAMILIES = ("qwen2", "llama_biased", "qwen3", "smollm3", "gemma3")
INPUTS = make_reference.sample_inputs(seed=4)


@pytest.fixture(params=FAMILIES)
def base(request, tmp_path):
    """A model of transformers, its folder, and the config and parameters loaded from it."""
    make_reference.make_model(make_reference.CONFIGS[request.param], seed=3).save_pretrained(tmp_path / "base")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager").eval()
    config = hf_config.read_config(tmp_path / "base")
    return theirs, str(tmp_path / "base"), config, hf_weights.load(tmp_path / "base", config)


def our_logits(config, params):
    token_bt, position_bt = map(jnp.array, INPUTS)
    model = decoder.bind(config, params)
    hidden_btd, _ = model(token_bt, position_bt, jnp.ones(token_bt.shape, bool))
    return jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv())


@pytest.mark.parametrize("modules", [("query", "out", "up"), ("key", "value", "gate", "down")])
def test_peft_loads_saved_adapters(base, modules, tmp_path):
    theirs, folder, config, params = base
    plain = make_reference.logits_of(theirs, *INPUTS)
    config = dataclasses.replace(config, lora=LoraConfig(3, 6.0, modules))
    params = lora.add(params, config, jax.random.key(0))
    trained = jax.tree_util.tree_map_with_path(_randomize_b, params)
    hf_peft.save(trained, config, tmp_path / "adapter", folder)
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    found = our_logits(config, trained)
    np.testing.assert_allclose(found, make_reference.logits_of(adapted, *INPUTS), atol=1e-4)
    assert np.abs(found - plain).max() > 0.1
    merged = our_logits(dataclasses.replace(config, lora=None), lora.merge(trained, config))
    np.testing.assert_allclose(merged, found, atol=1e-4)


def test_adapters_of_peft_are_loaded(base, tmp_path):
    theirs, folder, config, params = base
    theirs_config = peft.LoraConfig(
        r=4, lora_alpha=3, target_modules=["q_proj", "o_proj", "gate_proj", "down_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(theirs, theirs_config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    config, params = hf_peft.load(tmp_path / "adapter", config, params)
    assert config.lora == LoraConfig(4, 3.0, ("query", "out", "gate", "down"))
    assert hf_peft.find_base(tmp_path / "adapter") == folder
    np.testing.assert_allclose(our_logits(config, params), make_reference.logits_of(adapted, *INPUTS), atol=1e-4)


def test_unsupported_adapters_are_rejected(base, tmp_path):
    theirs, _, config, params = base
    peft.get_peft_model(theirs, peft.LoraConfig(target_modules=["q_proj"], use_dora=True)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="use_dora=True: is not supported"):
        hf_peft.load(tmp_path, config, params)


@pytest.mark.parametrize("family", make_vision_reference.FAMILIES)
def test_adapters_of_a_vision_model_skip_its_tower(family, tmp_path):
    """The tower of Qwen2.5-VL has a gate_proj, too."""
    modules, names = ("out", "gate"), ("o_proj", "gate_proj")
    theirs = make_vision_reference.make_model(make_vision_reference.make_config(family), seed=3)
    theirs.save_pretrained(tmp_path / "base")
    config = hf_config.read_config(tmp_path / "base")
    params = hf_weights.load(tmp_path / "base", config)
    config = dataclasses.replace(config, lora=LoraConfig(3, 6.0, modules))
    params = jax.tree_util.tree_map_with_path(_randomize_b, lora.add(params, config, jax.random.key(0)))
    hf_peft.save(params, config, tmp_path / "adapter", base="")
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    found = {name: x.numpy() for name, x in adapted.state_dict().items() if "lora" in name}
    assert len(found) == config.layers * len(names) * 2 and not any("visual" in name for name in found)
    name = "base_model.model.model.language_model.layers.1.mlp.gate_proj.lora_B.default.weight"
    np.testing.assert_array_equal(found[name], params["layers"]["mlp"]["gate_lora_b"][1].T)
    token_bt = np.random.default_rng(0).integers(0, make_vision_reference.IMAGE, (2, 11))  # text alone
    with torch.no_grad():
        want_btv = adapted(input_ids=torch.tensor(token_bt)).logits
    model = decoder.bind(config, params)
    position_bt = jnp.broadcast_to(jnp.arange(11)[None], token_bt.shape)
    hidden_btd, _ = model(jnp.array(token_bt), position_bt, jnp.ones(token_bt.shape, bool))
    np.testing.assert_allclose(jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv()), want_btv, atol=1e-4)
    adapted.save_pretrained(tmp_path / "again")
    _, again = hf_peft.load(tmp_path / "again", dataclasses.replace(config, lora=None), lora.strip(params))
    np.testing.assert_array_equal(again["layers"]["mlp"]["gate_lora_b"], params["layers"]["mlp"]["gate_lora_b"])


def _randomize_b(path, x):
    """Return a random value for B of an adapter; other parameters are unchanged."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return 0.2 * jax.random.normal(jax.random.key(len(name)), x.shape) if name.endswith("_lora_b") else x
