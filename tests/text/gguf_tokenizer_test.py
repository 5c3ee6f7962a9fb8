"""Tokenizers inside GGUF files, written here in the format that converters write."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.response_format import TRIAL_ANSWERS
from tests.text.byte_pairs import CHATML, QWEN_PATTERN, to_fast, train_core

gguf = pytest.importorskip("gguf")

# The patterns as the models' own tokenizer.json has them; None is GPT-2's, with digits one by one for SmolLM.
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
    if PATTERNS[pre]:
        cut = pre_tokenizers.Split(Regex(PATTERNS[pre]), behavior="isolated")
        return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(True), whole]) if pre == "smollm" else whole


def train(pre: str):
    """Trained without any pattern, so that all patterns have something to keep apart."""
    texts = ["12345", "123", "45", " 12345", "it's", "IT'S", "that.\n", "x.\n\n", ".\n\n", ">A", "</think>\n"]
    core = train_core(texts, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    core.pre_tokenizer = pre_tokenizer(pre)
    return core


def write(path, core, pre: str | None, *, template: str | None = CHATML, unused: int = 0, **ids: int) -> str:
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
def test_tokenizes_like_the_tokenizer_it_was_made_from(tmp_path, pre):
    core = train(pre)
    whole = tokenizers.wrap(to_fast(core))
    read = tokenizers.load(write(tmp_path / "a.gguf", core, pre))
    assert (read.token_bytes, read.tags, read.eos_ids) == (whole.token_bytes, whole.tags, (2,))
    for text in TEXTS:
        if pre != "qwen2" or text != "e\u0301":  # the one that NFC, which is Qwen's, puts together
            assert read.encode(text) == whole.encode(text), text


def test_patterns_make_a_difference(tmp_path):
    """Else the test above would show nothing."""
    cut = {pre: tokenizers.load(write(tmp_path / f"{pre}.gguf", train(pre), pre)).encode for pre in PATTERNS}
    assert len({tuple(encode(" 12345 that.\n\n")) for encode in cut.values()}) == 4
    assert cut["qwen2"]("e\u0301") == cut["qwen2"]("é") and cut["smollm"]("e\u0301") != cut["smollm"]("é")


def test_ends_padding_and_rows_without_a_token(tmp_path):
    core = train("qwen2")
    size = core.get_vocab_size()
    read = tokenizers.load(write(tmp_path / "a.gguf", core, "qwen2", unused=3, eos=0, eot=2, padding=size))
    assert read.eos_ids == (2, 0)
    assert read.declared_pad_id == read.pad_id == size
    assert read.decode([size + 1, 65, size + 2]) == read.decode([65])


@pytest.mark.parametrize("pre", [None, "default", "deepseek-llm"])
def test_unknown_ways_to_cut_are_refused_by_name(tmp_path, pre):
    with pytest.raises(ValueError, match=f"cuts text by {pre!r} .* known are .*smollm, qwen2"):
        tokenizers.load(write(tmp_path / "a.gguf", train("gpt-2"), pre))


def test_no_chat_template(tmp_path):
    path = write(tmp_path / "a.gguf", train("qwen2"), "qwen2", template=None)
    with pytest.raises(ValueError, match="a.gguf' cannot be used:\n.*no chat template.*tokenizer.chat_template"):
        tokenizers.load(path)


def test_damaged(tmp_path, monkeypatch):
    whole = Path(write(tmp_path / "a.gguf", train("qwen2"), "qwen2")).read_bytes()
    for kept in (0, 3, 20, 200, len(whole) // 2, len(whole) - 300):
        (tmp_path / "b.gguf").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="b.gguf"):
            tokenizers.load(tmp_path / "b.gguf")
    with pytest.raises(ValueError, match="c.gguf"):
        tokenizers.load(tmp_path / "c.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match="pip install gguf"):
        tokenizers.load(tmp_path / "a.gguf")
