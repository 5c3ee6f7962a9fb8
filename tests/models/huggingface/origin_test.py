"""A trained model keeps what the files of its base say besides parameters and shape."""

import json

import pytest

from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.huggingface.origin import Origin, read_origin
from tests.models.families import published
from tests.models.families.qwen2_5_vl_test import HUB_3B
from tests.models.lora_test import BASE, base_params

GENERATION = {"bos_token_id": 5, "do_sample": True, "eos_token_id": [7, 5], "pad_token_id": 5, "temperature": 0.7,
              "top_p": 0.8, "repetition_penalty": 1.05}  # fmt: skip


def save(folder, origin):
    hf_weights.save(base_params(), BASE, folder, eos_ids=(7, 5), pad_id=3, origin=origin)
    return [json.loads((folder / name).read_text()) for name in ("config.json", "generation_config.json")]


def test_generation_config_is_kept(tmp_path):
    """The padding id is that of the base, not of the tokenizer; all ids that end a completion are listed."""
    assert save(tmp_path, Origin(generation=GENERATION))[1] == GENERATION
    assert save(tmp_path, Origin(generation=GENERATION | {"eos_token_id": 7, "pad_token_id": None}))[
        1
    ] == GENERATION | {"pad_token_id": 3}
    assert save(tmp_path, None)[1] == {"bos_token_id": None, "eos_token_id": [7, 5], "pad_token_id": 3}


def test_fields_that_are_not_computed_are_kept(tmp_path):
    saved, _ = save(tmp_path / "base", None)
    more = {"bos_token_id": 5, "initializer_range": 0.1, "use_cache": True, "attention_dropout": 0.0}
    gone = {
        "_name_or_path": "/home/me/base",
        "transformers_version": "5.1.0",
        "dtype": "bfloat16",
        "rope_parameters": None,
    }
    again, _ = save(tmp_path / "again", Origin(config=saved | more | gone))
    assert again == saved | more
    assert save(tmp_path / "other", Origin(config={"model_type": "gpt2", "n_ctx": 7}))[0] == saved


@pytest.mark.parametrize("name", [*published.CONFIGS, "Qwen2.5-VL-3B"])
def test_every_field_of_a_published_config_is_kept(name, tmp_path):
    """`tokens_per_second` of a vision tower, for one, is needed to read videos."""
    raw = published.CONFIGS.get(name, HUB_3B)
    hf_config.write_config(published.read(raw), tmp_path, dtype="bfloat16", eos_ids=(7, 5), base=raw)
    written = json.loads((tmp_path / "config.json").read_text())
    want = raw | {"torch_dtype": "bfloat16", "eos_token_id": [7, 5]}
    assert {key: written.get(key) for key in want if key not in ("rope_scaling", "vision_config")} == {
        key: value for key, value in want.items() if key not in ("rope_scaling", "vision_config")
    }
    for nested in ("rope_scaling", "vision_config"):
        assert (want.get(nested) or {}).items() <= (written.get(nested) or {}).items()
    assert published.read(written) == published.read(raw)


def test_nested_fields_are_kept_where_transformers_4_reads_them(tmp_path):
    text = {"model_type": "qwen2_5_vl_text", "attention_dropout": 0.1, "rope_parameters": {"rope_theta": 7.0}}
    hf_config.write_config(published.read(HUB_3B), tmp_path, base=HUB_3B | {"text_config": text})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "qwen2_5_vl" and not {"text_config", "rope_parameters"} & written.keys()
    assert hf_config.read_config(tmp_path) == published.read(HUB_3B)


@pytest.mark.parametrize(
    "card, license",
    [
        ("---\nlicense: apache-2.0\nlanguage:\n- en\n---\n# Model", {"license": "apache-2.0"}),
        (
            "---\nlicense: other\nlicense_name: qwen-research\nlicense_link: https://example.org/LICENSE\n---\n",
            {"license": "other", "license_name": "qwen-research", "license_link": "https://example.org/LICENSE"},
        ),
        ("# Model\n\nlicense: mit\n---\n", {}),
        ("---\ntags: []\n---\nlicense: mit\n", {}),
        (None, {}),
    ],
)
def test_license_is_that_of_the_card(card, license, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    if card:
        (tmp_path / "README.md").write_text(card)
    assert read_origin(tmp_path).license == license


def test_ids_of_another_tokenizer_are_not_kept():
    origin = Origin(config={"bos_token_id": 1, "use_cache": True}, generation=GENERATION).without_token_ids()
    assert origin.config == {"use_cache": True}
    assert origin.generation == {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.05}


def test_tensors_are_readable_by_the_group(tmp_path):
    (tmp_path / "any").touch()
    save(tmp_path, None)
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "any").stat().st_mode}
