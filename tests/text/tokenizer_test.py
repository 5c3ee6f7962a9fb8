"""Text ↔ ids, the ends of tokens in the text, and tokenizers that cannot be used."""

import dataclasses
import json

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from mig_jax.errors import UserError
from mig_jax.text import response_format, stop_ids, token_bytes, tokenizer
from mig_jax.text.prompts import PromptStyle
from mig_jax.text.response_format import TRIAL_ANSWERS
from mig_jax.text.step_format import MIG, SPACES
from mig_jax.text.tokenizer import Tokenizer, build_character_tokenizer, merging_answers, wrap
from tests.text.byte_pairs import CHATML, CORPUS, to_fast, train_core

RESPONSE = response_format.render_response(["7+5=2", "é 😀 → 你好", "a\r\n\tb  c ,.'s"], "\\frac{1}{2}")
SCRIPTS = "é 😀 👩\u200d👧 你好 e\u0301 \u202eabc \x00 \ufffd \U0010ffff\n"


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return build_character_tokenizer()


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    """Return a small byte-level BPE, whose tokens are parts of characters as well as whole words."""
    return wrap(to_fast(train_core([*CORPUS, RESPONSE, "😀😁😂🤣😃", SCRIPTS], vocab_size=500)))


@pytest.fixture(scope="module")
def sentence_pieces() -> Tokenizer:
    """Return a tokenizer in the style of Llama 2: `▁` for a space, and bytes for unknown characters."""
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
    # The naive way: decode each prefix.
    prefixes = [b"".join(tok.token_bytes[id] for id in ids[: t + 1]) for t in range(len(ids))]
    assert char_end_t == [len(prefix.decode(errors="ignore")) for prefix in prefixes]


def test_character_ends_with_the_token_of_its_last_byte(characters, byte_pairs):
    assert characters.decode_with_ends(characters.encode("a😀é")) == ("a😀é", [1, 1, 1, 1, 2, 2, 3])
    split = byte_pairs.encode("a🤖b")
    assert 3 < len(split)
    assert byte_pairs.decode_with_ends(split)[1] == [1] * (len(split) - 2) + [2, 3]


@pytest.mark.parametrize(
    "ids, text, char_end_t",
    [
        ([], "", []),
        # Part of a character, at the end and inside.
        ([97, 0xF0, 0x9F], "a\ufffd", [1, 1, 2]),
        ([0xF0, 0x9F, 97], "\ufffda", [0, 0, 2]),
        ([0xFF, 0xC3], "\ufffd\ufffd", [1, 2]),
        # Ids of rows that a model has beyond its tokens, and invalid ids.
        ([97, 270, 98, 10**9, -1, 99], "abc", [1, 1, 2, 2, 2, 3]),
        ([0xC3, 5000, 0xA9], "é", [0, 0, 1]),
        ([256, 97, 265], "<think>a<|im_end|>", [7, 8, 18]),
    ],
)
def test_any_ids_decode(characters, ids, text, char_end_t):
    assert characters.decode_with_ends(ids) == (text, char_end_t)


def test_text_is_decoded_at_once_as_it_is_byte_by_byte():
    data = (SCRIPTS + RESPONSE).encode()
    for size in (1, 2, 3, 5):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert token_bytes.decode_pieces(pieces) == token_bytes._decode_one_by_one(pieces)


def test_cuts_are_the_first_token_boundary_at_or_after_a_character(characters):
    ids = characters.encode("<think>é1\n### Step ")
    text, char_end_t = characters.decode_with_ends(ids)
    assert char_end_t == [7, 7, 8, 9, 10, 19]
    positions = [0, 1, 6, 7, 8, 9, 10, 11, 19]
    assert characters.cut_tokens(char_end_t, positions) == [0, 1, 1, 1, 3, 4, 5, 6, 6]
    assert characters.cut_tokens([], [0]) == [0]
    assert characters.cut_tokens(char_end_t, []) == []


def test_character_tokenizer(characters):
    assert characters.encode("".join(map(chr, range(128)))) == list(range(128))
    lengths = {part: len(characters.encode(part)) for part in (*MIG.tags, "### Step ", "assistant")}
    assert set(lengths.values()) == {1}
    assert characters.vocab_size == len(characters.fast) == 270
    assert characters.decode(characters.eos_ids) == "<|im_end|>"
    assert characters.decode([characters.pad_id]) == "<|endoftext|>"


def test_chat_prompt(characters):
    messages = PromptStyle("Add.").messages("1+1?")
    prompt = "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert characters.decode(characters.chat_prompt(messages)) == prompt
    # Eight tokens besides the question.
    assert len(characters.chat_prompt(messages[1:])) == len("1+1?") + 8


def test_images_in_a_chat_prompt(characters):
    messages = PromptStyle().messages("1+1?", n_images=1)
    prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert characters.decode(characters.chat_prompt(messages)) == prompt
    assert len(characters.chat_prompt(messages)) == len("1+1?") + 8 + 3


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", "\n<think>\n\n"])
def test_prompt_ends_as_the_chat_template_writes_it(opening):
    """The prompt is what a server makes with this template, the start of the think block included."""
    chat_template = CHATML.replace("assistant\n", "assistant\n" + opening)
    tok = wrap(to_fast(train_core(), chat_template=chat_template))
    prompt = tok.decode(tok.chat_prompt([{"role": "user", "content": "What is <think>?"}]))
    assert prompt == f"<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n{opening}"


def test_messages_that_the_chat_template_refuses():
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    tok = wrap(to_fast(train_core(), chat_template=refusal + CHATML))
    assert tok.chat_prompt(PromptStyle().messages("1+1?"))
    with pytest.raises(UserError, match="refuses a chat of system, user: no system role here"):
        tok.chat_prompt(PromptStyle("Add.").messages("1+1?"))


def test_token_id(characters):
    assert characters.token_id("<|image_pad|>") == 269 and characters.token_id("a") == 97
    with pytest.raises(UserError, match="encodes 'ab' as 2 tokens, not one"):
        characters.token_id("ab")
    with pytest.raises(UserError, match="encodes '' as 0 tokens, not one"):
        characters.token_id("")


@pytest.mark.parametrize("family", ["", "qwen2", "qwen3", "llama"])
def test_save_and_load(characters, tmp_path, family):
    """Check this also beside a model's config, whose family must not change the tokenizer."""
    characters.save(tmp_path)
    if family:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    loaded = tokenizer.load(tmp_path)
    assert loaded.token_bytes == characters.token_bytes
    assert (loaded.eos_ids, loaded.pad_id) == (characters.eos_ids, characters.pad_id)
    messages = PromptStyle("Add.").messages("1+1?")
    assert loaded.chat_prompt(messages) == characters.chat_prompt(messages)
    for text in (RESPONSE, SCRIPTS):
        assert loaded.encode(text) == characters.encode(text)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert auto.encode(RESPONSE) == characters.encode(RESPONSE)
    assert auto.decode(characters.encode(RESPONSE)) == RESPONSE


def test_shipped_tokenizer():
    """Check that the tokenizer of the shipped policy, which predates the image tokens, still works unchanged."""
    loaded = tokenizer.load("mig_jax/assets/quickstart")
    assert (loaded.vocab_size, loaded.eos_ids, loaded.pad_id, loaded.format) == (267, (265,), 266, MIG)
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
def test_eos_ids_are_collected_from_all_files(characters, tmp_path, generation, config, eos_ids):
    characters.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": config}))
    assert tokenizer.load(tmp_path).eos_ids == eos_ids


def test_id_that_ends_a_turn_comes_first():
    """Check this with a different end-of-sequence of the tokenizer's own, as in Qwen's base models."""
    core = train_core()
    assert wrap(to_fast(core, eos_token="<|endoftext|>"), eos_ids=[7, 2]).eos_ids == (2, 0, 7)


def test_special_token_that_ends_a_turn_of_a_base_model_ends_completions(monkeypatch):
    warnings = []
    monkeypatch.setattr(stop_ids.logging, "warning", lambda text, *values: warnings.append(text % values))
    core = train_core()
    assert wrap(to_fast(core, eos_token="<|endoftext|>"), eos_ids=[7]).eos_ids == (2, 0, 7)
    assert wrap(to_fast(core, eos_token=None)).eos_ids == (2,)
    assert [text.partition(", which")[0] for text in warnings] == [
        "the chat template of '' ends a turn with '<|im_end|>', id 2"
    ] * 2


@pytest.mark.parametrize(
    "end, eos, eos_ids",
    [
        ("<|im_end|>", ["<|endoftext|>"], (2, 1, 0)),
        ("<|im_start|>", ["<|im_end|>"], (1, 2)),
        ("!", ["!"], (3, 1)),
        ("", ["<|im_end|>", "!"], (2, 1, 3)),
    ],
)
def test_named_end_of_sequence(end, eos, eos_ids):
    fast = to_fast(
        train_core(),
        eos_token="<|im_start|>",
        chat_template="{% for m in messages %}{{ m.content }}" + end + "{% endfor %}",
    )
    assert wrap(fast, eos=eos).eos_ids == eos_ids


def test_named_end_of_sequence_must_be_one_token():
    with pytest.raises(UserError, match="model.eos: .* encodes 'the end' as [0-9]+ tokens, not one"):
        wrap(to_fast(train_core()), eos=["the end"])


def test_ids_of_adapters_are_those_of_both_folders(characters, tmp_path):
    """A folder of adapters may name one id where the base model has three."""
    for folder, generation in (
        ("base", {"eos_token_id": [7, 8], "pad_token_id": 9}),
        ("adapters", {"eos_token_id": 6}),
    ):
        to_fast(train_core(), pad_token=None).save_pretrained(tmp_path / folder)
        (tmp_path / folder / "generation_config.json").write_text(json.dumps(generation))
    loaded = tokenizer.load(tmp_path / "adapters", model_folder=tmp_path / "base")
    assert (loaded.eos_ids, loaded.declared_pad_id) == ((2, 6, 7, 8), 9)


@pytest.mark.parametrize(
    "tokenizer_pad, generation_pad, declared, pad",
    [("<|endoftext|>", None, 0, 0), ("<|im_start|>", 2, 1, 1), (None, 2, 2, 2), (None, None, None, 0)],
)
def test_pad_id(tmp_path, tokenizer_pad, generation_pad, declared, pad):
    to_fast(train_core(), pad_token=tokenizer_pad).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"pad_token_id": generation_pad}))
    loaded = tokenizer.load(tmp_path)
    assert (loaded.declared_pad_id, loaded.pad_id) == (declared, pad)


@pytest.mark.parametrize(
    "chat_template, error",
    [
        (None, "it has no chat template: add chat_template.jinja"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "writes nothing after an assistant's message"),
        ("{% for m in messages %}{{ m.role }}<|im_end|>{% endfor %}", "leaves out the assistant's messages"),
        ("{{ raise_exception('never') }}", "refuses a question and an answer: never"),
        (
            "{% for m in messages %}{{ m.content }}!{% endfor %}",
            "ends a turn with '!', id 3, which is not an end-of-sequence .* set model.eos",
        ),
        ("{% for m in messages %}{{ m.content | trim }} \n<|im_end|>{% endfor %}", None),
    ],
)
def test_chat_template_requirements(chat_template, error):
    core = train_core()
    if error is None:
        assert wrap(to_fast(core, chat_template=chat_template)).eos_ids == (2,)
        return
    with pytest.raises(UserError, match=error.replace("(", "\\(")):
        wrap(to_fast(core, chat_template=chat_template))


@pytest.mark.parametrize("name", ["tools", "documents"])
def test_chat_template_that_needs_a_list_of_tools(name):
    """transformers gives it none where there are no tools."""
    fast = to_fast(train_core(), chat_template="{% for x in " + name + " %}{{ x }}{% endfor %}" + CHATML)
    chat = [{"role": "user", "content": "What?"}]
    assert wrap(fast).chat_text(chat) == wrap(to_fast(train_core())).chat_text(chat)
    broken = to_fast(train_core(), chat_template="{{ messages + 1 }}" + CHATML)
    with pytest.raises(UserError, match="its chat template refuses a question and an answer: can only concatenate"):
        wrap(broken)


def test_all_errors_are_reported_at_once(tmp_path):
    core = train_core()
    core.decoder = decoders.WordPiece()
    core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError) as raised:
        tokenizer.load(tmp_path)
    for part in (str(tmp_path), "names no end-of-sequence", "no chat template", "unknown with the decoder"):
        assert part in str(raised.value)


def test_missing_tokenizer(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no tokenizer.json: .* with transformers$"):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(UserError, match="convert its tokenizer.model: pip install sentencepiece, then AutoTokenizer"):
        tokenizer.load(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a local folder, and it cannot be downloaded from the hub .*OWNER/NAME"):
        tokenizer.load("/no/such/folder")


@pytest.mark.parametrize(
    "file, content", [("tokenizer.json", "{"), ("tokenizer_config.json", "{"), ("generation_config.json", "{")]
)
def test_damaged_files_are_named(characters, tmp_path, file, content):
    characters.save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}.* cannot be read, .*may be damaged"):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "decoder, name", [(decoders.WordPiece(), "WordPiece"), (decoders.BPEDecoder(), "BPEDecoder"), (None, "null")]
)
def test_tokens_with_unknown_bytes_are_refused(decoder, name):
    core = Core(models.BPE({"a": 0, "</s>": 1}, []))
    if decoder:
        core.decoder = decoder
    with pytest.raises(UserError, match=f"unknown with the decoder .*{name}"):
        wrap(to_fast(core, eos_token="</s>"))


def test_each_tokenizer_uses_tags_that_it_never_merges(characters, byte_pairs):
    assert characters.format == MIG
    assert byte_pairs.format == dataclasses.replace(MIG, space=SPACES[1])
    for tok in (characters, byte_pairs):
        assert merging_answers(tok, TRIAL_ANSWERS) == []
    # It would merge with the plain tags: `>A`, `}</` and others are tokens.
    plain = dataclasses.replace(byte_pairs, format=MIG)
    assert merging_answers(plain, ["A", "-5", "\\frac{1}{2}", "(A)", "42"]) == ["A", "-5", "\\frac{1}{2}", "(A)"]


def test_tokenizer_that_merges_with_every_tag_is_refused():
    """Check a tokenizer without pre-tokenizer, which merges across line breaks and spaces."""
    core = train_core()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges = json.loads(core.to_str())["model"]["merges"]
    vocabulary = core.get_vocab() | {"Ċ4": 5000, "AĊ": 5001}
    core.model = models.BPE(vocabulary, [("Ċ", "4"), ("A", "Ċ"), *map(tuple, merges)])
    with pytest.raises(UserError, match=r"merges answers with every pair of tags.* merge with \['42', 'A', "):
        wrap(to_fast(core))


def test_lone_surrogate_is_a_user_error():
    with pytest.raises(UserError, match="cannot be encoded as UTF-8"):
        tokenizer.build_character_tokenizer().encode("7 \ud800")


def test_added_tokens_without_a_row_are_never_used(monkeypatch):
    """Some published tokenizers have a padding token that was added without a row of the embedding."""
    warnings = []
    monkeypatch.setattr(tokenizer.logging, "warning", lambda text, *values: warnings.append(text % values))
    fast = to_fast(train_core())
    rows = len(fast)
    fast.add_special_tokens({"pad_token": "[PAD]"})
    tok = wrap(fast, eos_ids=[rows])
    assert (tok.vocab_size, tok.pad_id, tok.eos_ids) == (rows + 1, rows, (2, rows))
    limited = tok.limit_to(rows)
    assert (limited.vocab_size, limited.pad_id, limited.eos_ids) == (rows, 0, (2,))
    assert limited.encode("so (a+b)") == tok.encode("so (a+b)") and tok.limit_to(rows + 1) is tok
    with pytest.raises(UserError, match=r"no row for the token '\[PAD\]', id [0-9]+, of the text 'a\[PAD\]'"):
        limited.encode("a[PAD]")
    assert len(warnings) == 1 and warnings[0].endswith("never used: '[PAD]'")
    with pytest.raises(
        UserError, match=f"the tokenizer has {rows + 1} tokens, the model embeds {rows - 1}: use the mod"
    ):
        tok.limit_to(rows - 1)


# ------------------------------------------------------------------------------------------------------- SentencePiece


@pytest.fixture(params=["legacy", "metaspace"])
def pieces(request):
    """A tokenizer like those of Llama 2, as transformers converts it with `legacy` true or false."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += sorted(
        {"▁", *"".join(TRIAL_ANSWERS), *"### Step [INST] <think></think><answer></answer> system:"} - {" ", "\n"}
    )
    merges = [("▁", "a"), ("▁", "4"), ("▁", "<"), ("<", "/"), (".", "."), ("▁", "S"), ("▁S", "t"), ("▁", "#")]
    names += [a + b for a, b in merges]
    vocabulary = {name: id for id, name in enumerate(names)}
    core = Core(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if request.param == "legacy":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(parts)
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} </s>"
        "{% else %}<s>[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
    )
    return wrap(to_fast(core, eos_token="</s>", bos_token="<s>", chat_template=template))


def test_pieces_of_a_sentencepiece_text_are_encoded_as_inside_it(pieces):
    response = "<think>\n### Step 1: a 4.\n</think>\n<answer>42</answer>"
    for split in range(len(response)):
        parts = response[:split], response[split:]
        assert pieces.decode([*pieces.encode(parts[0]), *pieces.encode(parts[1])]) == response
    assert merging_answers(pieces, TRIAL_ANSWERS) == []
    ids = pieces.encode(response)
    assert pieces.fast.convert_ids_to_tokens(ids)[:3] == ["<", "t", "h"]
    assert pieces.encode(" a4") == [pieces.token_id(" a"), pieces.token_id("4")] and pieces.encode("") == []
    assert pieces.fast.convert_ids_to_tokens(pieces.encode_start("a4")) == ["▁a", "4"]


def test_prompt_of_a_sentencepiece_tokenizer_is_that_of_transformers(pieces):
    messages = [{"role": "user", "content": "a 4?"}]
    want = pieces.fast.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert pieces.chat_prompt(messages) == want and pieces.eos_ids == (2,)


def test_byte_level_tokenizers_need_no_sentinel(characters, byte_pairs):
    assert (characters.sentinel, byte_pairs.sentinel) == ("", "")
