"""Adapters in PEFT's format are read back, and all errors in such files are reported."""

import dataclasses
import json

import chex
import numpy as np
import pytest
import safetensors.numpy
from safetensors.numpy import load_file

from mig_jax.errors import UserError
from mig_jax.models.huggingface import peft
from mig_jax.models.qwen2_vl import VisionConfig
from tests.models.lora_test import BASE, CONFIG, base_params, flat, with_adapters


def test_saved_adapters_are_loaded(tmp_path):
    params = with_adapters()
    peft.save(params, CONFIG, tmp_path, base="somewhere/base")
    assert peft.find_base(tmp_path) == "somewhere/base" and peft.find_base(tmp_path / "none") is None
    config, again = peft.load(tmp_path, BASE, base_params())
    assert config == CONFIG
    chex.assert_trees_all_equal(again, params)
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn.o_proj.lora_{}.weight"
    np.testing.assert_array_equal(
        tensors[name.format("A")][1], flat(params)["layers/attention/out_lora_a"][1, :, :, 1].ravel()
    )
    assert tensors[name.format("B")].shape == (8, 2) and len(tensors) == 2 * 2 * 7


@pytest.mark.parametrize("prefix", ["model.layers.", "model.language_model.layers."])
def test_both_names_of_adapters_of_a_vision_model(prefix, tmp_path):
    """transformers 4.52 moved the decoder of Qwen2.5-VL into a submodule. The adapters need only its config."""
    tower = VisionConfig(width=8, layers=1, heads=1, mlp_width=8, full_layers=(), patch_size=4, window_size=16)
    base, config = (dataclasses.replace(x, vision=tower) for x in (BASE, CONFIG))
    peft.save(with_adapters(), config, tmp_path, base="")
    file = tmp_path / "adapter_model.safetensors"
    tensors = {name.replace("model.language_model.layers.", prefix): x for name, x in load_file(file).items()}
    safetensors.numpy.save_file(tensors, file)
    chex.assert_trees_all_equal(peft.load(tmp_path, base, base_params())[1], with_adapters())
    both = {name.replace(prefix, "model.layers."): x for name, x in tensors.items()}
    both |= {name.replace(prefix, "model.language_model.layers."): x for name, x in tensors.items()}
    safetensors.numpy.save_file(both, file)
    with pytest.raises(UserError, match="there twice, under two names: base_model.model.model"):
        peft.load(tmp_path, base, base_params())


def test_all_errors_are_listed_at_once(tmp_path):
    peft.save(with_adapters(), CONFIG, tmp_path, base="")
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.{}.lora_{}.weight"
    del tensors[name.format("up_proj", "A")]
    tensors[name.format("gate_proj", "B")] = np.zeros((9, 2), np.int32)
    tensors["elsewhere"] = np.zeros(1, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "adapter_model.safetensors")
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    changes = {"use_dora": True, "bias": "all", "lora_alpha": 0, "init_lora_weights": "pissa"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(UserError) as caught:
        peft.load(tmp_path, BASE, base_params())
    for part in (
        "init_lora_weights='pissa': changes the base parameters",
        "use_dora=True: is not supported", "bias='all': must be 'none'", "lora_alpha=0: must be > 0",
        f"missing: {name.format('up_proj', 'A')} [2, 8]", "gate_proj.lora_B.weight is [9, 2], not [8, 2]",
        "gate_proj.lora_B.weight is I32, not one of F32", "unexpected: elsewhere",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_missing_and_empty_files(tmp_path):
    peft.save(with_adapters(), CONFIG, tmp_path, base="")
    safetensors.numpy.save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="there are no adapters"):
        peft.load(tmp_path, BASE, base_params())
    for content in ('{"base_model_name_or_path": null}', '{"base_model_name_or_path": ""}', "{}"):
        (tmp_path / "adapter_config.json").write_text(content)
        with pytest.raises(UserError, match="base_model_name_or_path is empty"):
            peft.find_base(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    for read in (peft.find_base, lambda folder: peft.load(folder, BASE, base_params())):
        with pytest.raises(UserError, match="adapter_config.json: not JSON"):
            read(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="adapter_model.safetensors"):
        peft.load(tmp_path, BASE, base_params())
