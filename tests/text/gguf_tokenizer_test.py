"""Tokenizers inside GGUF files, which the tests write in the format of the converters."""

import json
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from mig_jax.errors import UserError
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.response_format import TRIAL_ANSWERS
from tests.text.byte_pairs import CHATML, QWEN_PATTERN, to_fast, train_core

gguf = pytest.importorskip("gguf")

# The split patterns of the models' own tokenizer.json; None is GPT-2's, after splitting off single digits for SmolLM.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {"qwen2": QWEN_PATTERN, "llama-bpe": LLAMA3_PATTERN, "gpt-2": None, "smollm": None}
TEXTS = (
    "12345 it's IT'S that.\n",
    " 12 + 3.\r\n\n  x",
    "so (a+b).\n</think>\n<answer>A",
    "<|im_end|>é 你好",
    *TRIAL_ANSWERS,
)


def pre_tokenizer(pre: str):
    """Return the pre-tokenizer of this name."""
    if PATTERNS[pre]:
        split = pre_tokenizers.Split(Regex(PATTERNS[pre]), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level]) if pre == "smollm" else byte_level


def train(pre: str):
    """Train a BPE without a split pattern, so that it has merges that each pattern prevents."""
    texts = ["12345", "123", "45", " 12345", "it's", "IT'S", "that.\n", "x.\n\n", ".\n\n", ">A", "</think>\n"]
    core = train_core(texts, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    core.pre_tokenizer = pre_tokenizer(pre)
    return core


def write(path, core, pre: str | None, *, template: str | None = CHATML, unused: int = 0, **ids: int) -> str:
    """Write a GGUF file with a tokenizer and return its path.

    Args:
      path: where to write it.
      core: the tokenizer.
      pre: name of its pre-tokenizer.
      template: chat template.
      unused: number of unused tokens to append.
      **ids: ids of special tokens by their roles, such as eot=2.
    """
    model = json.loads(core.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [3 if token.startswith("<|") else 1 for token in tokens]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, *(f"[PAD{n}]" for n in range(unused))])
    writer.add_token_types([*kinds, *[5] * unused])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    for role, id in ({"eos": 2} | ids).items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", id)
    if template:
        writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(path)


@pytest.mark.parametrize("pre", PATTERNS)
def test_encodes_like_the_original_tokenizer(tmp_path, pre):
    core = train(pre)
    original = tokenizers.wrap(to_fast(core))
    loaded = tokenizers.load(write(tmp_path / "a.gguf", core, pre))
    assert (loaded.token_bytes, loaded.format, loaded.eos_ids) == (original.token_bytes, original.format, (2,))
    for text in TEXTS:
        if pre != "qwen2" or text != "e\u0301":  # Qwen's NFC normalization combines this one
            assert loaded.encode(text) == original.encode(text), text


def test_patterns_give_different_tokens(tmp_path):
    """Check that the test above distinguishes the patterns."""
    encode_of = {pre: tokenizers.load(write(tmp_path / f"{pre}.gguf", train(pre), pre)).encode for pre in PATTERNS}
    assert len({tuple(encode(" 12345 that.\n\n")) for encode in encode_of.values()}) == 4
    assert encode_of["qwen2"]("e\u0301") == encode_of["qwen2"]("é") and encode_of["smollm"]("e\u0301") != encode_of[
        "smollm"
    ]("é")


def test_eos_padding_and_unused_tokens(tmp_path):
    core = train("qwen2")
    size = core.get_vocab_size()
    loaded = tokenizers.load(write(tmp_path / "a.gguf", core, "qwen2", unused=3, eos=0, eot=2, padding=size))
    assert loaded.eos_ids == (2, 0)
    assert loaded.declared_pad_id == loaded.pad_id == size
    assert loaded.decode([size + 1, 65, size + 2]) == loaded.decode([65])


@pytest.mark.parametrize(
    "name, pre", [("deepseek-r1-qwen", "qwen2"), ("llama3", "llama-bpe"), ("llama-v3", "llama-bpe")]
)
def test_other_names_of_a_pre_tokenizer(tmp_path, name, pre):
    """llama.cpp reads these names as the same pre-tokenizer."""
    core = train(pre)
    first, second = (tokenizers.load(write(tmp_path / f"{x}.gguf", core, x)) for x in (name, pre))
    assert all(first.encode(text) == second.encode(text) for text in TEXTS)


@pytest.mark.parametrize("pre", [None, "default", "deepseek-llm"])
def test_unknown_pre_tokenizer_is_refused(tmp_path, pre):
    with pytest.raises(UserError, match=f"pre-tokenizer {pre!r} .* supported is .*smollm, qwen2"):
        tokenizers.load(write(tmp_path / "a.gguf", train("gpt-2"), pre))


def test_missing_chat_template(tmp_path):
    path = write(tmp_path / "a.gguf", train("qwen2"), "qwen2", template=None)
    with pytest.raises(UserError, match="a.gguf' cannot be used:\n.*no chat template.*tokenizer.chat_template"):
        tokenizers.load(path)


def test_damaged_file(tmp_path):
    whole = Path(write(tmp_path / "a.gguf", train("qwen2"), "qwen2")).read_bytes()
    for n_bytes in (0, 3, 20, 200, len(whole) // 2, len(whole) - 300):
        (tmp_path / "b.gguf").write_bytes(whole[:n_bytes])
        with pytest.raises(UserError, match="b.gguf"):
            tokenizers.load(tmp_path / "b.gguf")
    with pytest.raises(UserError, match="c.gguf"):
        tokenizers.load(tmp_path / "c.gguf")
