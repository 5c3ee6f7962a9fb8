"""Ids ↔ text, and where each token ends in the text."""

import dataclasses
import json

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from mig_jax.text import response_format, tokenizer
from mig_jax.text.response_format import ANSWER_TAGS, PLAIN_TAGS, TRIAL_ANSWERS
from mig_jax.text.tokenizer import Tokenizer, build_character_tokenizer, merge_problems, wrap
from tests.text.byte_pairs import CHATML, CORPUS, to_fast, train_core

RESPONSE = response_format.render_response(["7+5=2", "é 😀 → 你好", "a\r\n\tb  c ,.'s"], "\\frac{1}{2}")
SCRIPTS = "é 😀 👩\u200d👧 你好 e\u0301 \u202eabc \x00 \ufffd \U0010ffff\n"


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return build_character_tokenizer()


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    """A small byte-level BPE, whose tokens hold parts of characters as well as whole words."""
    return wrap(to_fast(train_core([*CORPUS, RESPONSE, "😀😁😂🤣😃", SCRIPTS], vocab_size=500)))


@pytest.fixture(scope="module")
def sentence_pieces() -> Tokenizer:
    """In the manner of Llama 2: `▁` for a space, and bytes for what is not in the vocabulary."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "c", "é", "1", "▁a", "ab"]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    core = Core(models.BPE(vocabulary, [("▁", "a"), ("a", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(["</s>"])
    return wrap(to_fast(core, eos_token="</s>", chat_template=CHATML.replace("<|im_end|>", "</s>")))


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
        ([97, 270, 98, 10**9, -1, 99], "abc", [1, 1, 2, 2, 2, 3]),
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
    assert characters.vocab_size == len(characters.fast) == 270
    assert characters.decode(characters.eos_ids) == "<|im_end|>"
    assert characters.decode([characters.pad_id]) == "<|endoftext|>"


def test_chat_prompt(characters):
    messages = response_format.render_prompt("1+1?", system="Add.")
    prompt = "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert characters.decode(characters.chat_prompt(messages)) == prompt
    # Eight tokens beside the question.
    assert len(characters.chat_prompt(messages[1:])) == len("1+1?") + 8


def test_images_in_a_chat_prompt(characters):
    messages = response_format.render_prompt("1+1?", system="", n_images=1)
    prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert characters.decode(characters.chat_prompt(messages)) == prompt
    assert len(characters.chat_prompt(messages)) == len("1+1?") + 8 + 3


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", "\n<think>\n\n"])
def test_the_policy_opens_the_think_block_itself(opening):
    chat_template = CHATML.replace("assistant\n", "assistant\n" + opening)
    tok = wrap(to_fast(train_core(), chat_template=chat_template))
    prompt = tok.decode(tok.chat_prompt([{"role": "user", "content": "What is <think>?"}]))
    kept = opening[: opening.index("<think>")]
    assert prompt == f"<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n{kept}"


def test_what_the_chat_template_refuses():
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    tok = wrap(to_fast(train_core(), chat_template=refusal + CHATML))
    assert tok.chat_prompt(response_format.render_prompt("1+1?", system=""))
    with pytest.raises(ValueError, match="refuses a chat of system, user: no system role here"):
        tok.chat_prompt(response_format.render_prompt("1+1?", system="Add."))


def test_ids_of_single_tokens(characters):
    assert characters.token_id("<|image_pad|>") == 269 and characters.token_id("a") == 97
    with pytest.raises(ValueError, match="'ab' is 2 tokens"):
        characters.token_id("ab")
    with pytest.raises(ValueError, match="'' is 0 tokens"):
        characters.token_id("")


@pytest.mark.parametrize("family", ["", "qwen2", "qwen3", "llama"])
def test_saved_and_loaded(characters, tmp_path, family):
    """Also beside a model, whose family must not make another tokenizer of it."""
    characters.save(tmp_path)
    if family:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    loaded = tokenizer.load(tmp_path)
    assert loaded.token_bytes == characters.token_bytes
    assert (loaded.eos_ids, loaded.pad_id) == (characters.eos_ids, characters.pad_id)
    messages = response_format.render_prompt("1+1?", system="Add.")
    assert loaded.chat_prompt(messages) == characters.chat_prompt(messages)
    for text in (RESPONSE, SCRIPTS):
        assert loaded.encode(text) == characters.encode(text)
    others = AutoTokenizer.from_pretrained(tmp_path)
    assert others.encode(RESPONSE) == characters.encode(RESPONSE)
    assert others.decode(characters.encode(RESPONSE)) == RESPONSE


def test_as_shipped():
    """The tokenizer of the policy that ships is older than the words for images, and goes on as it was."""
    loaded = tokenizer.load("mig_jax/assets/quickstart")
    assert (loaded.vocab_size, loaded.eos_ids, loaded.pad_id, loaded.tags) == (267, (265,), 266, PLAIN_TAGS)
    assert loaded.encode(RESPONSE) == build_character_tokenizer().encode(RESPONSE)


@pytest.mark.parametrize(
    "generation, config, eos_ids",
    [
        (None, None, (265,)),
        (7, None, (265, 7)),
        ([265, 266], 266, (265, 266)),
        ([266, 265], None, (265, 266)),
        (None, [7, 8], (265, 7, 8)),
        ([266], 7, (265, 266, 7)),
    ],
)
def test_all_ids_that_end_a_completion(characters, tmp_path, generation, config, eos_ids):
    characters.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": config}))
    assert tokenizer.load(tmp_path).eos_ids == eos_ids


def test_the_id_that_ends_a_turn_comes_first():
    """As in base models of Qwen's, whose own end-of-sequence is another."""
    core = train_core()
    assert wrap(to_fast(core, eos_token="<|endoftext|>"), eos_ids=[7, 2]).eos_ids == (2, 0, 7)
    with pytest.raises(ValueError, match=r"ends with '<\|im_end\|>', id 2, .*\[0, 7\].* add it to eos_token_id"):
        wrap(to_fast(core, eos_token="<|endoftext|>"), eos_ids=[7])


@pytest.mark.parametrize(
    "tokenizer_pad, generation_pad, declared, filler",
    [("<|endoftext|>", None, 0, 0), ("<|im_start|>", 2, 1, 1), (None, 2, 2, 2), (None, None, None, 0)],
)
def test_padding_is_declared_or_not(tmp_path, tokenizer_pad, generation_pad, declared, filler):
    to_fast(train_core(), pad_token=tokenizer_pad).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"pad_token_id": generation_pad}))
    loaded = tokenizer.load(tmp_path)
    assert (loaded.declared_pad_id, loaded.pad_id) == (declared, filler)


@pytest.mark.parametrize(
    "chat_template, fault",
    [
        (None, "it has no chat template: put one into chat_template.jinja"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "writes nothing behind what the assistant says"),
        ("{% for m in messages %}{{ m.role }}<|im_end|>{% endfor %}", "leaves out what the assistant says"),
        ("{{ raise_exception('never') }}", "refuses a question and an answer: never"),
        ("{% for m in messages %}{{ m.content }}!{% endfor %}", "ends with '!', id 3, which ends no completion"),
        ("{% for m in messages %}{{ m.content | trim }} \n<|im_end|>{% endfor %}", ""),
    ],
)
def test_what_a_chat_template_must_do(chat_template, fault):
    core = train_core()
    if not fault:
        assert wrap(to_fast(core, chat_template=chat_template)).eos_ids == (2,)
        return
    with pytest.raises(ValueError, match=fault.replace("(", "\\(")):
        wrap(to_fast(core, chat_template=chat_template))


def test_all_faults_are_told_at_once(tmp_path):
    core = train_core()
    core.decoder = decoders.WordPiece()
    core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError) as caught:
        tokenizer.load(tmp_path)
    for part in (str(tmp_path), "names no end-of-sequence", "no chat template", "cannot be told with the decoder"):
        assert part in str(caught.value)


def test_where_there_is_no_tokenizer(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="has no tokenizer.json"):
        tokenizer.load(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="no folder here, and not to be had from the hub"):
        tokenizer.load("/no/such/folder")


@pytest.mark.parametrize(
    "decoder, name", [(decoders.WordPiece(), "WordPiece"), (decoders.BPEDecoder(), "BPEDecoder"), (None, "null")]
)
def test_what_cannot_be_placed_in_the_text_is_refused(decoder, name):
    core = Core(models.BPE({"a": 0, "</s>": 1}, []))
    if decoder:
        core.decoder = decoder
    with pytest.raises(ValueError, match=f"cannot be told with the decoder .*{name}"):
        wrap(to_fast(core, eos_token="</s>"))


def test_each_tokenizer_takes_tags_that_it_leaves_alone(characters, byte_pairs):
    assert characters.tags == PLAIN_TAGS
    assert byte_pairs.tags == ANSWER_TAGS[1]
    for tok in (characters, byte_pairs):
        assert merge_problems(tok, TRIAL_ANSWERS) == []
    # With the plain ones it would not: it knows `>A` and `}</` and the like.
    plain = dataclasses.replace(byte_pairs, tags=PLAIN_TAGS)
    assert merge_problems(plain, ["A", "-5", "\\frac{1}{2}", "(A)", "42"]) == ["A", "-5", "\\frac{1}{2}", "(A)"]


def test_a_tokenizer_that_merges_with_every_tag_is_refused():
    """Without a pre-tokenizer, byte pairs run over line breaks and spaces."""
    core = train_core()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges = json.loads(core.to_str())["model"]["merges"]
    vocabulary = core.get_vocab() | {"Ċ4": 5000, "AĊ": 5001}
    core.model = models.BPE(vocabulary, [("Ċ", "4"), ("A", "Ċ"), *map(tuple, merges)])
    with pytest.raises(ValueError, match=r"merges answers with every pair of tags.* with \['42', 'A', "):
        wrap(to_fast(core))
