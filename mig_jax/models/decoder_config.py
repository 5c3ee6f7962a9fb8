"""The shape of a decoder, and how it is computed."""

import dataclasses

from mig_jax.errors import UserError
from mig_jax.models.adapters import ATTENTION, LoraConfig
from mig_jax.models.experts import ExpertsConfig
from mig_jax.models.rope import RopeScaling
from mig_jax.models.vision import VisionShape


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder, and how it is computed.

    vocab_size, width, layers, heads, kv_heads, head_size, mlp_width: V, D, L, N, M, H, F; M divides N.
    rope_theta: base of the rotary wavelengths, which range from 2π to 2π·theta tokens.
    rope_scaling: change of the wavelengths for longer contexts; None for no change.
    no_rope_layers: layers whose queries and keys are not rotated (SmolLM3, "NoPE"), from 0.
    rope_sections: numbers of frequencies for time, height and width (M-RoPE of Qwen2.5-VL); () for text alone.
    interleaved_sections: the sections alternate, see `rope.section_axes` (Qwen3-VL).
    window: tokens that a token sees at most, itself and those right before it; None for all.
    full_layers: layers whose tokens see all earlier ones although there is a `window`, from 0.
    window_rope_theta: base of the rotary wavelengths in layers with the window, which are not scaled (Gemma 3); None
      for those of the other layers.
    score_divisor: scores are divided by its square root; None for head_size.
    norm_eps: added to the mean square in every RMSNorm.
    tied_head: the output matrix is the transposed embedding.
    qkv_bias: queries, keys and values have biases (Qwen2; Llama with `attention_bias`).
    o_bias: the output projection of attention has a bias (Llama with `attention_bias`).
    qk_norm: queries and keys are normalized per head (Qwen3).
    post_norms: outputs of attention and MLP are normalized, too, before they are added (Gemma 3).
    shifted_norms: norms scale by 1 + their parameter, in float32 (Gemma 3).
    scaled_embedding: embeddings are multiplied by √width, rounded to the dtype of activations (Gemma 3).
    activation: of the gate in the MLP, a key of `layers.ACTIVATIONS`.
    experts: mixture of experts in place of the MLP of every layer, whose `mlp_width` is then unused; None for none.
    vision: shape of the vision tower; None for text alone.
    lora: projections that have adapters, with `experts` those of attention; None for none.
    max_positions: longest sequence that the model was trained for, in tokens; it computes longer ones, too.
    dtype: of activations and caches, "float32" or "bfloat16". Norms, rotary angles and softmax are always float32.
    param_dtype: of the parameters.
    remat: what the backward pass recomputes instead of storing, a key of `remat.POLICIES`.
    attention: kernel for sequences without a cache, a key of `attention.KERNELS`.

    Raises:
      UserError: kv_heads does not divide heads, head_size is odd, there is no layer of `no_rope_layers` or
        `full_layers`, or no window of which some layers are without; or experts have adapters.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rope_sections: tuple[int, ...] = ()
    interleaved_sections: bool = False
    no_rope_layers: tuple[int, ...] = ()
    window: int | None = None
    full_layers: tuple[int, ...] = ()
    window_rope_theta: float | None = None
    score_divisor: float | None = None
    norm_eps: float = 1e-6
    tied_head: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    shifted_norms: bool = False
    scaled_embedding: bool = False
    activation: str = "silu"
    experts: ExpertsConfig | None = None
    vision: VisionShape | None = None
    lora: LoraConfig | None = None
    max_positions: int = 32_768
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    attention: str = "xla"

    def __post_init__(self):
        if self.heads % self.kv_heads or self.head_size % 2:
            raise UserError(
                f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}, and head_size={self.head_size} "
                "must be even"
            )
        if self.window is None and (self.full_layers or self.window_rope_theta is not None):
            raise UserError("full_layers and window_rope_theta need a window")
        for name in ("no_rope_layers", "full_layers"):
            if not set(vars(self)[name]) <= set(range(self.layers)):
                raise UserError(f"{name}={vars(self)[name]}: there are layers 0 to {self.layers - 1}")
        if self.experts and self.lora and not set(self.lora.modules) <= set(ATTENTION):
            raise UserError(
                f"adapters of {', '.join(self.lora.modules)}: in a mixture of experts only attention can have them; "
                f"set model.lora.modules={ATTENTION}"
            )
