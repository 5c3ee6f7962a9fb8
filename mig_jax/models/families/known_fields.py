"""Fields of config.json that do not change what a model computes, in any family.

A field that is neither read, nor listed here, nor null is refused: it may change the computation, and a model that
ignores it runs and is wrong. A family names further fields of its own files in `Family.harmless`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

# fmt: off
HARMLESS = frozenset((
    # Where the model comes from and how it is stored.
    "architectures", "auto_map", "dtype", "finetuning_task", "model_name", "model_type", "name_or_path",
    "tokenizer_class", "torch_dtype", "transformers_version", "transformers.js_config", "model_max_length",
    "max_sequence_length", "is_llama_config", "vocab_file", "language",
    # How it is run: results are the same.
    "attn_implementation", "experts_implementation", "chunk_size_feed_forward", "gradient_checkpointing",
    "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate",
    "torchscript", "use_bfloat16", "use_cache", "use_flash_attn", "use_flash_attention_2", "use_liger_kernel",
    "pretraining_tp", "tensor_parallel_size", "tie_encoder_decoder", "tf_legacy_loss", "use_return_dict",
    # Training and initialization. Dropout is never applied here.
    "initializer_range", "initializer_factor", "embd_pdrop", "resid_pdrop", "attn_pdrop", "neftune_noise_alpha",
    # Tasks other than generation.
    "id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "prefix", "is_decoder",
    "is_encoder_decoder", "add_cross_attention", "cross_attention_hidden_size", "pruned_heads",
    # Settings of generation, which transformers 4 once kept here. A run has its own.
    "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "length_penalty",
    "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "remove_invalid_values", "repetition_penalty", "suppress_tokens", "temperature", "top_k",
    "top_p", "typical_p", "use_cache_in_generation",
))
# fmt: on
# Names of versions and of settings of the libraries that saved the file; probabilities of dropout; ids of tokens, which
# the tokenizer and generation_config.json give.
_PREFIXES = ("_", "unsloth_")
_SUFFIXES = ("_dropout", "_dropout_prob", "_token_id", "_token_ids", "_token_index")


def unknown_fields(raw: dict[str, Any], known: Iterable[str], *, inside: str = "") -> Iterator[str]:
    """Yield every field that is not null, not in `known` and not harmless.

    A field such as `use_sinks` is harmless if it is false.

    Args:
      raw: config.json, or an object in it.
      known: fields that the caller reads or checks.
      inside: name of the object and a dot, for messages.
    """
    known = {*known, *HARMLESS}
    for field, value in raw.items():
        is_harmless = field in known or field.startswith(_PREFIXES) or field.endswith(_SUFFIXES)
        is_off = value is None or value is False and field.startswith("use_")
        if not is_off and not is_harmless:
            yield f"{inside}{field} = {shorten(value)}, which this family does not have; supported: absent"


def shorten(value: Any, limit: int = 80) -> str:
    """Return the representation of a value, shortened for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
