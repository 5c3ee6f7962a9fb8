"""A random Qwen2 model and its tokenizer, written as a folder that every side of `against_peers.py` reads."""

import itertools
import json
import string
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PAD, EOS = "<|endoftext|>", "<|im_end|>"


def write_model(folder: Path, *, layers: int, width: int, vocab: int, seed: int = 0) -> Path:
    """Write config.json, model.safetensors and a tokenizer; return the folder.

    No sample ends early, so that all sides sample the same number of tokens: coordinate 0 of the residual is large and
    positive for every token, and that of the output rows of padding and end-of-sequence is negative.

    Args:
      folder: where to write; it is made.
      layers: decoder layers.
      width: D; heads have 64 dimensions, half as many key as query heads, and the MLP is 3 D wide.
      vocab: V.
      seed: of the parameters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heads = width // 64
    config = {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": max(1, heads // 2), "head_dim": 64, "vocab_size": vocab,
        "tie_word_embeddings": True, "max_position_embeddings": 32_768, "torch_dtype": "float32",
        "eos_token_id": vocab - 1, "pad_token_id": vocab - 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    ids = {"eos_token_id": vocab - 1, "pad_token_id": vocab - 2}
    (folder / "generation_config.json").write_text(json.dumps(ids))
    save_file(draw_tensors(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, vocab)
    return folder


def draw_tensors(config: dict, seed: int) -> dict[str, np.ndarray]:
    """Return Hugging Face's tensors of the model by name."""
    rng = np.random.default_rng(seed)
    width, mlp, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * size, config["num_key_value_heads"] * size

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.02, shape).astype(np.float32)

    embedding = draw(config["vocab_size"], width)
    embedding[:, 0] = 0.5
    embedding[-2:, 0] = -1.0
    tensors = {"model.embed_tokens.weight": embedding, "model.norm.weight": np.ones(width, np.float32)}
    for layer in range(config["num_hidden_layers"]):
        shapes = {"q": (query, width), "k": (key, width), "v": (key, width), "o": (width, query)}
        parts = {f"self_attn.{name}_proj.weight": draw(*shape) for name, shape in shapes.items()}
        parts |= {f"self_attn.{name}_proj.bias": np.zeros(shapes[name][0], np.float32) for name in "qkv"}
        parts |= {f"mlp.{name}_proj.weight": draw(mlp, width) for name in ("gate", "up")}
        parts["mlp.down_proj.weight"] = draw(width, mlp)
        parts |= {f"{name}_layernorm.weight": np.ones(width, np.float32) for name in ("input", "post_attention")}
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in parts.items()}
    return tensors


def write_tokenizer(folder: Path, vocab: int) -> None:
    """Write a byte-level BPE of `vocab` entries. It merges letters alone: a digit is always one token."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = string.ascii_lowercase
    merges: list[tuple[str, str]] = []
    words = list(letters)
    while len(merges) < vocab - 2 - len(symbols):
        pairs = list(itertools.product(words, letters))
        merges += pairs
        words = ["".join(pair) for pair in pairs]
    merges = merges[: vocab - 2 - len(symbols)]
    entries = {entry: n for n, entry in enumerate([*symbols, *map("".join, merges)])}
    tokenizer = Tokenizer(BPE(entries, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(PAD, special=True), AddedToken(EOS, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS, "pad_token": PAD,
        "clean_up_tokenization_spaces": False, "model_max_length": 32_768,
        "chat_template": "{% for message in messages %}{{ message['content'] }}"
        f"{{% if message['role'] == 'assistant' %}}{EOS}{{% endif %}}{{% endfor %}}",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def draw_prompts(n: int, tokens: int, seed: int = 0) -> list[str]:
    """Return n prompts of random digits, each of so many tokens."""
    rng = np.random.default_rng(seed)
    return ["".join(map(str, digits)) for digits in rng.integers(0, 10, (n, tokens))]
