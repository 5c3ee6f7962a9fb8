"""Qwen3-MoE (arXiv 2505.09388), such as Qwen3-30B-A3B: Qwen3 with a mixture of experts in every layer."""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.experts import ExpertsConfig
from mig_jax.models.families.decoder_tensors import TENSORS, TensorLayout
from mig_jax.models.families.family import Family
from mig_jax.models.families.text_errors import is_size

# transformers 5 writes the number of experts under the second name.
_COUNTS = ("num_experts", "num_local_experts")
_SIZES = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
# Settings of a loss that transformers adds in training; here `loss.router_balance` is its coefficient.
_LOSS = ("output_router_logits", "router_aux_loss_coef")
# Fields of the files of Qwen3-MoE → the value that is computed, and what another would mean.
_ONLY = {
    "decoder_sparse_step": (1, "layers without experts"),
    "mlp_only_layers": ([], "layers without experts"),
    "shared_expert_intermediate_size": (0, "an expert that all tokens share"),
    "qkv_bias": (False, "biases of queries, keys and values"),
    "use_qk_norm": (True, "no norms of queries and keys"),
}


class _Qwen3Moe(Family):
    """Reads and writes the shape of the experts."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        # A window would be in use in all layers.
        yield from super().errors(raw | {"max_window_layers": 0})
        yield from _expert_errors(raw)

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        sizes = _read_sizes(raw)
        experts = ExpertsConfig(*sizes.values(), is_normalized=raw.get("norm_topk_prob") or False)
        return super().read(raw) | {"experts": experts}

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        e = config.experts
        assert e is not None
        sizes = dict(zip(_SIZES, (e.count, e.per_token, e.width), strict=True))
        in_all_layers = {"decoder_sparse_step": 1, "mlp_only_layers": []}
        return super().write(config) | sizes | {"norm_topk_prob": e.is_normalized} | in_all_layers

    def storage_error(self, config: DecoderConfig) -> str | None:
        return super().storage_error(config) if config.experts else f"experts={config.experts}"


def _read_sizes(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes of the experts by their names in `_SIZES`, defaults filled in."""
    given = {name: raw[name] for name in (*_COUNTS, *_SIZES) if raw.get(name) is not None}
    return _SIZES | {_COUNTS[0] if name in _COUNTS else name: value for name, value in given.items()}


def _expert_errors(raw: dict[str, Any]) -> Iterator[str]:
    sizes = _read_sizes(raw)
    wrong = [name for name, value in sizes.items() if not is_size(value)]
    for name in wrong:
        yield f"{name} = {sizes[name]!r}; supported: a positive integer"
    experts, per_token = sizes["num_experts"], sizes["num_experts_per_tok"]
    if not wrong and per_token > experts:
        yield f"num_experts_per_tok = {per_token}; supported: up to num_experts = {experts}"
    if len({repr(raw[name]) for name in _COUNTS if raw.get(name) is not None}) > 1:
        yield f"num_experts = {raw['num_experts']!r}, num_local_experts = {raw['num_local_experts']!r}; supported: one"
    if not isinstance(raw.get("norm_topk_prob"), bool | None):
        yield f"norm_topk_prob = {raw['norm_topk_prob']!r}; supported: true or false"
    for name, (value, meaning) in _ONLY.items():
        if raw.get(name, value) not in (None, value):
            yield f"{name} = {raw[name]!r} ({meaning}); supported: {value!r}"


def _expert(name: str) -> TensorLayout:
    """Return the layout of a projection that each expert has: a tensor for each layer and expert."""
    return TensorLayout(f"model.layers.{{}}.mlp.experts.{{}}.{name}.weight", 1)


FAMILY = _Qwen3Moe(
    architecture="Qwen3MoeForCausalLM",
    default_max_positions=32_768,
    defaults={"num_key_value_heads": 4, "use_sliding_window": False},
    harmless=(*_COUNTS, *_SIZES, *_LOSS, *_ONLY, "norm_topk_prob"),
    qk_norm=True,
    stores=("experts",),
    tensors=TENSORS
    | {
        "layers/mlp/router": TensorLayout("model.layers.{}.mlp.gate.weight", 1),
        "layers/mlp/gate": _expert("gate_proj"),
        "layers/mlp/up": _expert("up_proj"),
        "layers/mlp/down": _expert("down_proj"),
    },
)
