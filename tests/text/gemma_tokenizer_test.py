"""A tokenizer in Gemma's style: `▁` for a space with none before a text, one <bos>, and turns that end in a token."""

import json

import pytest
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Core

from mig_jax.text import tokenizer
from mig_jax.text.prompts import PromptStyle, check_style
from mig_jax.text.response_format import MIG
from tests.text.template_shapes import SHAPES

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """Load a folder as on the hub: a tokenizer that writes <bos> itself, and a template that writes it, too."""
    folder = tmp_path_factory.mktemp("gemma")
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "\n", "\n\n", *map(chr, range(33, 127))]
    merges = [("\n", "\n"), ("▁", "a"), ("▁", "4"), ("o", "d"), ("m", "od")]
    pieces += [left + right for left, right in merges[1:]]
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    core = Core(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "merged_with_previous")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(list(SPECIALS))
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    core.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": True, "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "chat_template": SHAPES["gemma 3"].template,
        "tokenizer_class": "GemmaTokenizer",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 5]}))
    return tokenizer.load(folder)


def test_prompt_has_one_bos_and_the_instructions_word_for_word(gemma):
    instructions, question = MIG.system_prompt(), "What is 3 + 4?\n\nIf  a > 2, mod 7."
    style, notices = check_style(PromptStyle(instructions), gemma.chat_text)
    assert not style.in_user_turn and not notices
    ids = gemma.chat_prompt(style.messages(question))
    assert ids.count(2) == 1 and ids[0] == 2
    turn = f"<start_of_turn>user\n{instructions}\n\n{question}<end_of_turn>\n<start_of_turn>model\n"
    assert gemma.fast.decode(ids) == f"<bos>{turn}"


def test_completions_end_with_the_turn(gemma):
    assert gemma.eos_ids == (5, 1) and gemma.pad_id == 0


@pytest.mark.parametrize("text", ["a 4", " a", "4</answer>", "\n\nmod  π", "<answer>\n-3 </answer>"])
def test_texts_are_encoded_as_they_stand(gemma, text):
    """Nothing is put before them, so they join."""
    ids = gemma.encode(text)
    assert gemma.decode(ids) == text and 2 not in ids
    assert gemma.fast.convert_ids_to_tokens(gemma.encode("a"))[0] == "a"
