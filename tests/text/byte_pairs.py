"""A small byte-level BPE tokenizer in Qwen's style, trained on the spot, with the merges that matter for probes."""

from collections.abc import Sequence

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Core
from transformers import PreTrainedTokenizerFast

from mig_jax.text.token_bytes import byte_characters

# Digits are split one at a time; line breaks stay with the punctuation before them.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Texts that become tokens: tags, and tags with adjacent text.
CORPUS = (
    *("<think>\n", "</think>\n", "<answer>\n", " </answer>", "### Step ", "step is that.\n", "so (a+b).\n", "x}\n"),
    *(">A", ">B", ">-", ">.", ">\\", ">(", ">$", ".</", ")</", "}</", "%</", "$</", "A</", " A", "\n\n", ".\n\n"),
)


def qwen_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Return Qwen's pre-tokenizer."""
    split = pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_core(texts=CORPUS, *, vocab_size: int = 420, pre_tokenizer=None) -> Core:
    """Train a byte-level BPE on texts; Qwen's pre-tokenizer unless another is given."""
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizer or qwen_pre_tokenizer()
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    core.train_from_iterator(list(texts) * 3, trainer)
    return core


def merge_core(merged: Sequence[str | bytes]) -> Core:
    """Build a byte-level BPE on whole texts: bytes, and these tokens, each joined from two that are there by then."""
    name_of = byte_characters()
    names = ["".join(name_of[byte] for byte in (x if isinstance(x, bytes) else x.encode())) for x in merged]
    vocabulary = {name: id for id, name in enumerate(dict.fromkeys([*name_of, *names]))}
    merges = []
    for n, name in enumerate(names):
        known = {*name_of, *names[:n]}
        merges.append(next((name[:i], name[i:]) for i in range(len(name) - 1, 0, -1) if {name[:i], name[i:]} <= known))
    core = Core(models.BPE(vocabulary, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return core


def to_fast(core: Core, **kwargs) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer for transformers, with the ChatML template and <|im_end|> unless `kwargs` say otherwise."""
    options = {"eos_token": "<|im_end|>", "chat_template": CHATML} | kwargs
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **options)
