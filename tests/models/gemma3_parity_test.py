"""Gemma 3 with a vision tower: its text decoder equals that of transformers. Needs torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from mig_jax.models.huggingface import peft as hf_peft  # noqa: E402
from mig_jax.models.huggingface import weights as hf_weights  # noqa: E402
from tests.models.transformers_parity_test import logits, read  # noqa: E402
from tools import make_reference  # noqa: E402

TOWER = {
    "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 32,
    "patch_size": 8, "model_type": "siglip_vision_model",
}  # fmt: skip


def make_model():
    """Return a tiny model, with random values in each of its parameters."""
    text = make_reference.SIZES | make_reference.GEMMA3 | {"eos_token_id": None, "bos_token_id": None}
    config = transformers.Gemma3Config(
        text_config=text, vision_config=TOWER, mm_tokens_per_image=4, image_token_index=95, boi_token_index=93,
        eoi_token_index=94,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn_like(param) * 0.15)
    return model


def test_adapters_of_a_model_with_a_tower(tmp_path):
    """In both directions, under the names that they have in the whole model."""
    peft = pytest.importorskip("peft")
    model, (token_bt, _) = make_model(), make_reference.sample_inputs(seed=4)
    token_bt = token_bt % 93
    position_bt = np.broadcast_to(np.arange(token_bt.shape[1]), token_bt.shape)
    config, params = read(model, tmp_path / "theirs")
    theirs = peft.LoraConfig(
        r=3, lora_alpha=6, init_lora_weights=False, target_modules=r".*language_model.*\.(q_proj|o_proj|up_proj)"
    )
    adapted = peft.get_peft_model(model, theirs).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    want_btv = make_reference.logits_of(adapted, token_bt, position_bt)
    config, params = hf_peft.load(tmp_path / "adapter", config, params)
    np.testing.assert_allclose(logits(config, params, token_bt, position_bt), want_btv, atol=1e-4)
    hf_peft.save(params, config, tmp_path / "ours", "", base_has_tower=True)
    again = peft.PeftModel.from_pretrained(make_model(), tmp_path / "ours").eval()
    np.testing.assert_allclose(make_reference.logits_of(again, token_bt, position_bt), want_btv, atol=1e-5)


def test_text_of_a_model_with_a_tower(tmp_path):
    """It is saved as a model of text alone, which transformers computes alike."""
    model, (token_bt, _) = make_model(), make_reference.sample_inputs(seed=4)
    token_bt = token_bt % 93  # none of an image
    position_bt = np.broadcast_to(np.arange(token_bt.shape[1]), token_bt.shape)
    want_btv = make_reference.logits_of(model, token_bt, position_bt)
    config, params = read(model, tmp_path / "theirs")
    assert config.vision is None and config.rope_scaling.factor == 8
    np.testing.assert_allclose(logits(config, params, token_bt, position_bt), want_btv, atol=1e-4)
    hf_weights.save(params, config, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    assert type(again) is transformers.Gemma3ForCausalLM
    np.testing.assert_allclose(make_reference.logits_of(again, token_bt, position_bt), want_btv, atol=1e-5)
