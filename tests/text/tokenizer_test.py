"""Ids ↔ text, and where each token ends in the text."""

import json

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mig_jax.text import response_format, tokenizer
from mig_jax.text.tokenizer import Tokenizer, build_character_tokenizer, merge_problems

RESPONSE = response_format.render_response(["7+5=2", "é 😀 → 你好", "a\r\n\tb  c ,.'s"], "\\frac{1}{2}")
SCRIPTS = "é 😀 👩\u200d👧 你好 e\u0301 \u202eabc \x00 \ufffd \U0010ffff\n"


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return build_character_tokenizer()


def fast(core: Core, **kwargs) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **kwargs)


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    """A small byte-level BPE, whose tokens hold parts of characters as well as whole words."""
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    core.train_from_iterator([RESPONSE, "😀😁😂🤣😃", SCRIPTS] * 3, trainer)
    return tokenizer._wrap(fast(core, eos_token="<|end|>"), ())


@pytest.fixture(scope="module")
def sentence_pieces() -> Tokenizer:
    """In the manner of Llama 2: `▁` for a space, and bytes for what is not in the vocabulary."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "c", "é", "1", "▁a", "ab"]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    core = Core(models.BPE(vocabulary, [("▁", "a"), ("a", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(["</s>"])
    return tokenizer._wrap(fast(core, eos_token="</s>"), ())


@pytest.mark.parametrize("kind", ["characters", "byte_pairs", "sentence_pieces"])
@pytest.mark.parametrize("text", ["", "a", RESPONSE, SCRIPTS, "".join(map(chr, range(128))), " a  b", "😀"])
def test_round_trip_and_ends(kind, text, request):
    tok = request.getfixturevalue(kind)
    ids = tok.encode(text)
    assert tok.decode(ids) == text == tok.fast.decode(ids)
    decoded, char_end_t = tok.decode_with_ends(ids)
    assert decoded == text
    # The plain way: as many characters as the bytes so far make complete.
    so_far = [b"".join(tok.token_bytes[id] for id in ids[: t + 1]) for t in range(len(ids))]
    assert char_end_t == [len(part.decode(errors="ignore")) for part in so_far]


def test_a_character_ends_with_the_token_of_its_last_byte(characters, byte_pairs):
    assert characters.decode_with_ends(characters.encode("a😀é")) == ("a😀é", [1, 1, 1, 1, 2, 2, 3])
    split = byte_pairs.encode("a🤖b")
    assert 3 < len(split)
    assert byte_pairs.decode_with_ends(split)[1] == [1] * (len(split) - 2) + [2, 3]


@pytest.mark.parametrize(
    "ids, text, char_end_t",
    [
        ([], "", []),
        # Half a character, at the end and inside.
        ([97, 0xF0, 0x9F], "a\ufffd", [1, 1, 2]),
        ([0xF0, 0x9F, 97], "\ufffda", [0, 0, 2]),
        ([0xFF, 0xC3], "\ufffd\ufffd", [1, 2]),
        # Ids of rows that a model has beyond its tokens, and worse.
        ([97, 267, 98, 10**9, -1, 99], "abc", [1, 1, 2, 2, 2, 3]),
        ([0xC3, 5000, 0xA9], "é", [0, 0, 1]),
        ([256, 97, 265], "<think>a<|im_end|>", [7, 8, 18]),
    ],
)
def test_whatever_is_sampled_is_text(characters, ids, text, char_end_t):
    assert characters.decode_with_ends(ids) == (text, char_end_t)


def test_cuts_are_the_first_boundary_at_or_behind_a_character(characters):
    ids = characters.encode("<think>é1\n### Step ")
    text, char_end_t = characters.decode_with_ends(ids)
    assert char_end_t == [7, 7, 8, 9, 10, 19]
    positions = [0, 1, 6, 7, 8, 9, 10, 11, 19]
    assert characters.cut_tokens(char_end_t, positions) == [0, 1, 1, 1, 3, 4, 5, 6, 6]
    assert characters.cut_tokens([], [0]) == [0]
    assert characters.cut_tokens(char_end_t, []) == []


def test_character_tokens(characters):
    assert characters.encode("".join(map(chr, range(128)))) == list(range(128))
    lengths = {part: len(characters.encode(part)) for part in (*response_format.TAGS, "### Step ", "assistant")}
    assert set(lengths.values()) == {1}
    assert characters.vocab_size == len(characters.fast) == 267
    assert characters.decode(characters.eos_ids) == "<|im_end|>"
    assert characters.decode([characters.pad_id]) == "<|endoftext|>"


def test_chat_prompt(characters):
    messages = response_format.render_prompt("1+1?", system="Add.")
    prompt = "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert characters.decode(characters.chat_prompt(messages)) == prompt
    # Eight tokens beside the question.
    assert len(characters.chat_prompt(messages[1:])) == len("1+1?") + 8


def test_chat_prompt_needs_a_template(byte_pairs):
    with pytest.raises(ValueError, match="has no chat template"):
        byte_pairs.chat_prompt(response_format.render_prompt("1+1?"))


@pytest.mark.parametrize("family", ["", "qwen2", "qwen3", "llama"])
def test_saved_and_loaded(characters, tmp_path, family):
    """Also beside a model, whose family must not make another tokenizer of it."""
    characters.save(tmp_path)
    if family:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    loaded = tokenizer.load(tmp_path)
    assert loaded.token_bytes == characters.token_bytes
    assert (loaded.eos_ids, loaded.pad_id) == (characters.eos_ids, characters.pad_id)
    messages = response_format.render_prompt("1+1?")
    assert loaded.chat_prompt(messages) == characters.chat_prompt(messages)
    for text in (RESPONSE, SCRIPTS):
        assert loaded.encode(text) == characters.encode(text)
    others = AutoTokenizer.from_pretrained(tmp_path)
    assert others.encode(RESPONSE) == characters.encode(RESPONSE)
    assert others.decode(characters.encode(RESPONSE)) == RESPONSE


@pytest.mark.parametrize(
    "ids, eos_ids", [(None, (265,)), (7, (265, 7)), ([265, 266], (265, 266)), ([266, 265], (265, 266))]
)
def test_all_ids_that_end_a_completion(characters, tmp_path, ids, eos_ids):
    characters.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert tokenizer.load(tmp_path).eos_ids == eos_ids


def test_padding_and_end_are_never_guessed(byte_pairs, tmp_path):
    assert byte_pairs.pad_id == byte_pairs.eos_ids[0]
    byte_pairs.fast.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="names no end-of-sequence"):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "decoder, name", [(decoders.WordPiece(), "WordPiece"), (decoders.BPEDecoder(), "BPEDecoder"), (None, "null")]
)
def test_what_cannot_be_placed_in_the_text_is_refused(decoder, name):
    core = Core(models.BPE({"a": 0, "</s>": 1}, []))
    if decoder:
        core.decoder = decoder
    with pytest.raises(ValueError, match=f"cannot be told with the decoder .*{name}"):
        tokenizer._wrap(fast(core, eos_token="</s>"), ())


ANSWERS = [
    "42",
    "-5",
    "+5",
    ".5",
    "1/2",
    "50%",
    "(B)",
    "x^2",
    "\\frac{1}{2}",
    "$5$",
    "Paris",
    "yes.",
    "你好",
    "<",
    ">",
    "/",
    "\\",
]


def test_probes_are_what_would_be_written(characters, byte_pairs):
    assert merge_problems(characters, ANSWERS) == []
    # This one knows `{2}<` and the like; that the test can fail is the point.
    assert merge_problems(byte_pairs, ["\\frac{1}{2}", "42"]) == ["\\frac{1}{2}"]
