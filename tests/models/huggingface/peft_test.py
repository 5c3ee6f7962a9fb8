"""Adapters in PEFT's format are read back, and all errors in such files are reported."""

import json

import chex
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.errors import UserError
from mig_jax.models.huggingface import peft
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


def test_all_errors_are_listed_at_once(tmp_path):
    peft.save(with_adapters(), CONFIG, tmp_path, base="")
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.{}.lora_{}.weight"
    del tensors[name.format("up_proj", "A")]
    tensors[name.format("gate_proj", "B")] = np.zeros((9, 2), np.int32)
    tensors["elsewhere"] = np.zeros(1, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "adapter_model.safetensors")
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw | {"use_dora": True, "bias": "all", "lora_alpha": 0}))
    with pytest.raises(UserError) as caught:
        peft.load(tmp_path, BASE, base_params())
    for part in (
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
