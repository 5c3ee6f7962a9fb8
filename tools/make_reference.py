"""Write tests/models/reference: tiny random models of transformers, and the logits that it computes with them.

    python tools/make_reference.py [NAME …]            # needs torch and transformers

With these files `reference_test.py` compares the decoder with transformers without torch.
`transformers_parity_test.py` compares more, with torch.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

SIZES = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    max_position_embeddings=64,
)

# Contexts are short, so that heads of 16 have frequencies that are kept, divided and blended.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 1024}

# A layer with a window and one without, each with its rotary embedding, and scores that are not divided by √head_dim.
GEMMA3 = {
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "pad_token_id": None,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    },
}

# Together: tied and untied, all kinds of biases, N·H above the width, other and scaled ropes, square matrices.
CONFIGS = {
    "qwen2": transformers.Qwen2Config(**SIZES, tie_word_embeddings=True, rms_norm_eps=1e-5),
    "qwen2_untied": transformers.Qwen2Config(
        **SIZES | {"intermediate_size": 32}, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    ),
    "llama": transformers.LlamaConfig(**SIZES),
    "llama_biased": transformers.LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=True),
    "llama_llama3": transformers.LlamaConfig(
        **SIZES | {"max_position_embeddings": 2048}, head_dim=16, rope_parameters=LLAMA3
    ),
    "qwen2_yarn": transformers.Qwen2Config(
        **SIZES | {"max_position_embeddings": 4096}, tie_word_embeddings=True, head_dim=16, rope_parameters=YARN
    ),
    "qwen3": transformers.Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "qwen3_moe": transformers.Qwen3MoeConfig(
        **SIZES, head_dim=16, moe_intermediate_size=20, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True
    ),
    "smollm3": transformers.SmolLM3Config(**SIZES, no_rope_layers=[1, 0], pad_token_id=None),
    "gemma3": transformers.Gemma3TextConfig(**SIZES, **GEMMA3),
    "mistral": transformers.MistralConfig(**SIZES, sliding_window=5),
}


def make_model(config: transformers.PretrainedConfig, seed: int = 0) -> torch.nn.Module:
    """Return a model in which biases and norms are random too: their initial values would hide errors."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            is_norm = "norm" in name
            param.copy_(torch.randn_like(param) * (0.2 if is_norm or "bias" in name else 0.15) + is_norm)
    return model


def sample_inputs(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and positions `[B, T]`; positions have gaps and are large, so rotary frequencies must be exact."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, SIZES["vocab_size"], (2, 11)), np.cumsum(rng.integers(1, 3000, (2, 11)), axis=1)


def logits_of(model: torch.nn.Module, token_bt: np.ndarray, position_bt: np.ndarray) -> np.ndarray:
    """Return logits `[B, T, V]` with causal attention."""
    with torch.no_grad():
        return model(torch.tensor(token_bt), position_ids=torch.tensor(position_bt)).logits.numpy()


def main() -> None:
    """Write one folder per config, or only those named on the command line."""
    for name in sys.argv[1:] or CONFIGS:
        folder = pathlib.Path(__file__).parents[1] / "tests" / "models" / "reference" / name
        model, (token_bt, position_bt) = make_model(CONFIGS[name]), sample_inputs()
        model.save_pretrained(folder)
        logits_btv = logits_of(model, token_bt, position_bt)
        np.savez(folder / "logits.npz", token_bt=token_bt, position_bt=position_bt, logits_btv=logits_btv)


if __name__ == "__main__":
    main()
