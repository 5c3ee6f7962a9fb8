"""config.json is read and written as a file; what it means is tested in tests/models/families."""

import dataclasses
import json

import pytest

from mig_jax.errors import UserError
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface import config as hf_config
from tests.models.families import published

SMOLLM2 = published.CONFIGS["SmolLM2-135M"]


def write(folder, raw):
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_errors_name_the_file_and_are_listed_together(tmp_path):
    with pytest.raises(UserError) as caught:
        hf_config.read_config(write(tmp_path, SMOLLM2 | {"hidden_act": "gelu", "mlp_bias": True}))
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"{tmp_path / 'config.json'}: this model is not supported:"
    assert lines == ["hidden_act = 'gelu'; supported: 'silu'", "mlp_bias = True; supported: False"]


@pytest.mark.parametrize(
    "content, want", [("", "not JSON"), ('{"model_type": "lla', "not JSON"), ("[1]", "holds list"), ("7", "holds int")]
)
def test_damaged_file_is_rejected(content, want, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"config.json: {want}"):
        hf_config.read_config(tmp_path)


def test_missing_and_binary_files_are_rejected(tmp_path):
    with pytest.raises(UserError, match="config.json: no such file"):
        hf_config.read_config(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="config.json: not JSON"):
        hf_config.read_config(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match="config.json: Is a directory"):
        hf_config.read_config(tmp_path)


@pytest.mark.parametrize(
    "family, flags",
    [
        ("llama", {}),
        ("llama", {"qkv_bias": True, "o_bias": True, "tied_head": False}),
        ("qwen2", {"qkv_bias": True, "rope_theta": 12345.0}),
        ("qwen3", {"qk_norm": True, "norm_eps": 1e-5, "head_size": 10}),
        ("qwen3", {"qk_norm": True, "qkv_bias": True, "o_bias": True}),
    ],
)
def test_written_config_is_read_back(family, flags, tmp_path):
    sizes = dict(vocab_size=9, width=8, layers=2, heads=4, kv_heads=2, head_size=2, mlp_width=5, max_positions=77)
    config = DecoderConfig(**sizes | flags)
    hf_config.write_generation_config(tmp_path, eos_ids=(3, 4), pad_id=5)
    hf_config.write_config(config, tmp_path, dtype="bfloat16", eos_ids=(3, 4), pad_id=5)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert hf_config.read_config(tmp_path) == config
    assert (raw["model_type"], raw["torch_dtype"], raw["eos_token_id"]) == (family, "bfloat16", [3, 4])
    assert json.loads((tmp_path / "generation_config.json").read_text())["pad_token_id"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "generation_config.json"]


@pytest.mark.parametrize("flags", [{"o_bias": True}, {"qk_norm": True, "qkv_bias": True}])
def test_config_of_no_family_is_not_written(flags, tmp_path):
    config = dataclasses.replace(hf_config.read_config(write(tmp_path, SMOLLM2)), **flags)
    before = (tmp_path / "config.json").read_bytes()
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(UserError, match="no Hugging Face family"):
            hf_config.write_config(config, folder)
    assert not (tmp_path / "new").exists() and (tmp_path / "config.json").read_bytes() == before
