"""A tokenizer's files are copied as they were, and those that are written open in transformers 4 and 5."""

import json

import pytest

from mig_jax.text import tokenizer, tokenizer_files
from tests.text.byte_pairs import to_fast, train_core

# tokenizer_config.json as the hub has it: more than a tokenizer that is loaded and saved again would write.
HUB_CONFIG = {
    "add_bos_token": False,
    "added_tokens_decoder": {"2": {"content": "<|im_end|>", "special": True}},
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "bos_token": None,
    "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
    "eos_token": "<|im_end|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
}


@pytest.fixture
def base(tmp_path):
    """A folder like one on the hub."""
    folder = tmp_path / "base"
    folder.mkdir()
    train_core().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(HUB_CONFIG))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "vocab.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    (folder / "model.safetensors").write_bytes(b"not of the tokenizer")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_copied_byte_for_byte(base, tmp_path):
    (base / "chat_template.jinja").write_text(HUB_CONFIG["chat_template"])
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    tokenizer.load(base).save(tmp_path / "out")
    assert contents(tmp_path / "out") == {k: v for k, v in contents(base).items() if k != "model.safetensors"}


def test_files_are_kept_in_memory(base, tmp_path):
    """The folder of the base model may be gone when a run ends."""
    before, loaded = contents(base), tokenizer.load(base)
    for path in base.iterdir():
        if path.is_file():
            path.unlink()
    loaded.save(tmp_path / "out")
    assert contents(tmp_path / "out")["tokenizer.json"] == before["tokenizer.json"]


def test_files_of_another_tokenizer_are_removed(base, tmp_path):
    """A stale chat_template.jinja would win over the template in tokenizer_config.json."""
    tokenizer.build_character_tokenizer().save(tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").exists()
    (tmp_path / "out" / "config.json").write_text("{}")
    tokenizer.load(base).save(tmp_path / "out")
    assert contents(tmp_path / "out").keys() == contents(base).keys() - {"model.safetensors"} | {"config.json"}


def test_files_are_readable_by_the_group(base, tmp_path):
    for number, loaded in enumerate((tokenizer.load(base), tokenizer.build_character_tokenizer())):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "any").touch()
        loaded.save(folder)
        assert {path.stat().st_mode for path in folder.iterdir() if path.is_file()} == {(folder / "any").stat().st_mode}


def test_written_files_have_no_names_of_one_version(tmp_path):
    """transformers 4 knows neither the class TokenizersBackend nor a list under extra_special_tokens."""
    fast = to_fast(train_core(), extra_special_tokens=["<|im_start|>"])
    for number, written in enumerate((tokenizer.build_character_tokenizer(), tokenizer.wrap(fast))):
        written.save(tmp_path / str(number))
        config = json.loads((tmp_path / str(number) / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert config["model_input_names"] == ["input_ids", "attention_mask"]
        assert not isinstance(config.get("extra_special_tokens"), list)
        assert tokenizer.load(tmp_path / str(number)).encode("a<|im_end|>") == written.encode("a<|im_end|>")


@pytest.mark.parametrize(
    "saved, portable",
    [
        (HUB_CONFIG, HUB_CONFIG),
        ({"tokenizer_class": "TokenizersBackend"}, {"tokenizer_class": "PreTrainedTokenizerFast"}),
        (
            {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend"},
            {
                "backend": "tokenizers",
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", "attention_mask"],
            },
        ),
        ({"extra_special_tokens": ["a", "b"]}, {"additional_special_tokens": ["a", "b"]}),
        (
            {"extra_special_tokens": ["a"], "additional_special_tokens": ["b", "a"]},
            {"additional_special_tokens": ["b", "a"]},
        ),
        ({"extra_special_tokens": {"image_token": "a"}}, {"extra_special_tokens": {"image_token": "a"}}),
    ],
)
def test_config_of_transformers_5_is_made_portable(saved, portable):
    assert tokenizer_files.portable_config(saved) == portable


def test_config_of_transformers_5_is_copied_portable(base, tmp_path):
    (base / "tokenizer_config.json").write_text(json.dumps(HUB_CONFIG | {"tokenizer_class": "TokenizersBackend"}))
    tokenizer.load(base).save(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert written == HUB_CONFIG | {"tokenizer_class": "PreTrainedTokenizerFast"}


def test_adapters_use_the_ids_of_their_base(base, tmp_path):
    """A folder of adapters may have the tokenizer but not generation_config.json."""
    (base / "generation_config.json").write_text('{"eos_token_id": [2, 0], "pad_token_id": 7}')
    tokenizer.load(base).save(tmp_path / "adapter")
    assert tokenizer.load(tmp_path / "adapter").eos_ids == (2,)
    loaded = tokenizer.load(tmp_path / "adapter", model_folder=base)
    assert (loaded.eos_ids, loaded.declared_pad_id) == ((2, 0), 7)
