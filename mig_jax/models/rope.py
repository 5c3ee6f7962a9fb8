"""Rotary position embeddings (RoPE, arXiv 2104.09864) and the frequency scalings that published models use.

    rope = make_rope(position_bt, rope_frequencies(head_size, theta))
    q_btnh = apply_rope(q_btnh, rope)

Values are rounded to float32 where Hugging Face rounds (`modeling_rope_utils.py` of transformers 5): at position
30,000 the last bit of a frequency is visible in the logits.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.errors import UserError


class Rope(NamedTuple):
    """Cosines and sines of the rotation angles of T tokens, each float32 `[B, T, H/2]`."""

    cos: jax.Array
    sin: jax.Array


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """A change of the frequencies for contexts longer than in pretraining. Fields are named as in config.json.

    kind: a key of `KINDS`; `FIELDS` lists the fields that each kind reads.
    factor: ratio of the longer context to that of pretraining.
    original_max_position_embeddings: context of pretraining, in tokens.
    low_freq_factor, high_freq_factor: llama3 divides a frequency by `factor` if it turns fewer times than
      low_freq_factor within the pretraining context, and keeps it above high_freq_factor turns.
    beta_fast, beta_slow: yarn keeps a frequency above beta_fast turns and divides it by `factor` below beta_slow.
    truncate: round yarn's bounds to whole pairs of dimensions.
    attention_factor: yarn multiplies cos and sin by it; None to derive it from `factor`.
    attn_factor: further factor of the derived one, as in DeepSeek-R1-0528-Qwen3-8B; None for 1. Serving engines read
      it, transformers does not.
    mscale, mscale_all_dim: if both are given and not 0, the attention factor is the quotient of two, one from each.

    Raises:
      UserError: the kind is unknown, or a field is missing or invalid. Lists every error, one a line.
    """

    kind: str
    factor: float
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attn_factor: float | None = None

    def __post_init__(self):
        if errors := list(_scaling_errors(self)):
            raise UserError("\n".join(errors))


def rope_frequencies(head_size: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
    """Return θ^(−2i/H) for i < H/2, changed by `scaling` if given: float32 `[H/2]`, in radians per token."""
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    # The float32 nearest to the true power, as in torch; numpy's own float32 power misses it for one pair in five.
    wavelength = np.power(np.float64(np.float32(theta)), exponent.astype(np.float64)).astype(np.float32)
    return KINDS[scaling.kind](wavelength, theta, scaling) if scaling else 1 / wavelength


def attention_factor(scaling: RopeScaling | None) -> float:
    """Return the factor of cos and sin: 1, except for yarn.

    For yarn it is the field of this name; else `attn_factor` times the quotient from `mscale` and `mscale_all_dim`, or
    times 0.1 · ln(factor) + 1 where these are not given.
    """
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return float(scaling.attention_factor)
    derived = _mscale(scaling.factor, 1)
    if scaling.mscale and scaling.mscale_all_dim:
        derived = _mscale(scaling.factor, scaling.mscale) / _mscale(scaling.factor, scaling.mscale_all_dim)
    return derived * (1.0 if scaling.attn_factor is None else scaling.attn_factor)


def _mscale(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def make_rope(
    position_bt: jax.Array,
    frequencies: np.ndarray,
    sections: tuple[int, ...] = (),
    attention_factor: float = 1.0,
    *,
    is_interleaved: bool = False,
) -> Rope:
    """Return cos and sin of position · frequency, times `attention_factor`.

    Args:
      position_bt: `[B, T]`; or `[B, T, 3]`, positions in time, height and width (M-RoPE).
      frequencies: `[H/2]`, from `rope_frequencies`.
      sections: numbers of frequencies that use the position in time, height and width. Ignored for `[B, T]`: the three
        positions of text are equal.
      is_interleaved: see `section_axes`.
    """
    position = position_bt.astype(jnp.float32)
    if position.ndim == 3:
        position = position[..., section_axes(sections, is_interleaved=is_interleaved)]
    else:
        position = position[..., None]
    angle = position * frequencies[None, None]
    return Rope(jnp.cos(angle) * attention_factor, jnp.sin(angle) * attention_factor)


def section_axes(sections: tuple[int, ...], *, is_interleaved: bool) -> np.ndarray:
    """Return the axis of each frequency, `[H/2]`: 0, 1 and 2 for time, height and width.

    Args:
      sections: numbers of frequencies of each axis.
      is_interleaved: 0 1 2 0 1 2 …, where an axis has frequencies left, else 0 (Qwen3-VL); False: 0 … 1 … 2 …
        (Qwen2.5-VL).
    """
    if not is_interleaved:
        return np.repeat(np.arange(3), sections)
    axis_f = np.zeros(sum(sections), np.int64)
    for axis in (1, 2):
        axis_f[axis : 3 * sections[axis] : 3] = axis
    return axis_f


def apply_rope(x_btnh: jax.Array, rope: Rope) -> jax.Array:
    """Rotate queries or keys; dimension i is paired with i + H/2, as in Hugging Face."""
    cos, sin = (part[:, :, None] for part in rope)
    left, right = jnp.split(x_btnh.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x_btnh.dtype)


# ------------------------------------------------------------------------------------------------------------ scalings


def _linear(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Return 1 / (λ · factor): positions are compressed into the old context (arXiv 2306.15595). Reads factor."""
    return 1 / wavelength / np.float32(scaling.factor)


def _llama3(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Divide low frequencies by `factor`, keep high ones, blend between (Llama 3.1, arXiv 2407.21783).

        n = original context / wavelength: turns within the original context
        w = clip((n − low_freq_factor) / (high_freq_factor − low_freq_factor), 0, 1)
        f' = (1 − w) · f / factor + w · f

    Reads factor, low_freq_factor, high_freq_factor, original_max_position_embeddings.
    """
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position_embeddings
    assert low is not None and high is not None and context is not None
    frequency = 1 / wavelength
    # Quotients are rounded twice, as when torch divides a number by an array.
    length = 1 / frequency * (2 * math.pi)
    weight = (1 / length * context - low) / (high - low)
    blend = (1 - weight) * frequency / scaling.factor + weight * frequency
    # The weight is not clipped: frequencies outside the blend must be rounded once only.
    divided = np.where(length > context / low, frequency / scaling.factor, blend)
    return np.where(length < context / high, frequency, divided).astype(np.float32)


def _yarn(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Blend as llama3 does, but linearly in the index of the pair (YaRN, arXiv 2309.00071, "NTK by parts").

        i(r) = H · ln(original context / (2π r)) / (2 ln θ): the pair that turns r times within the original context
        w_i = 1 − clip((i − i(beta_fast)) / (i(beta_slow) − i(beta_fast)), 0, 1)
        f' = (1 − w) · f / factor + w · f

    Reads factor, original_max_position_embeddings, beta_fast, beta_slow, truncate; see also `attention_factor`.
    """
    head_size, context = 2 * wavelength.size, scaling.original_max_position_embeddings
    assert context is not None
    first, last = (
        head_size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    # The bound is H − 1 although there are H/2 pairs: models were trained with the published code.
    first, last = max(first, 0), min(last, head_size - 1)
    ramp = (np.arange(wavelength.size, dtype=np.float32) - first) / (last - first or 0.001)
    weight = 1 - np.clip(ramp, 0, 1)
    return (1 / (scaling.factor * wavelength) * (1 - weight) + 1 / wavelength * weight).astype(np.float32)


KINDS: dict[str, Callable[[np.ndarray, float, RopeScaling], np.ndarray]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}


class ScalingFields(NamedTuple):
    """Fields of `RopeScaling` that a kind reads: those that config.json must give, and those it may give."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


FIELDS = {
    "linear": ScalingFields(("factor",)),
    "llama3": ScalingFields(
        ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    ),
    "yarn": ScalingFields(
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "attn_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
}

# Supported values of fields for which "a number above 0" is not the whole truth.
_SUPPORTED = {"factor": "a number of at least 1", "truncate": "true or false"}


def _scaling_errors(scaling: RopeScaling) -> Iterator[str]:
    """Yield every error in the fields of `scaling`, with the supported values."""
    if not isinstance(scaling.kind, str) or scaling.kind not in KINDS:
        yield f"rope type = {scaling.kind!r}; supported: 'default', {', '.join(map(repr, KINDS))}"
        return
    values = dataclasses.asdict(scaling)
    invalid = [field for field in sum(FIELDS[scaling.kind], ()) if not _is_valid(field, values[field], scaling.kind)]
    for field in invalid:
        supported = _SUPPORTED.get(field, "a number above 0")
        yield f"{field} = {values[field]!r} of {scaling.kind} rope; supported: {supported}"
    if invalid:
        return
    if scaling.kind == "llama3" and values["low_freq_factor"] >= values["high_freq_factor"]:
        yield "low_freq_factor ≥ high_freq_factor of llama3 rope; supported: low_freq_factor < high_freq_factor"
    if scaling.kind == "yarn" and scaling.beta_slow > scaling.beta_fast:
        yield "beta_slow > beta_fast of yarn rope; supported: beta_slow ≤ beta_fast"


def _is_valid(field: str, value: object, kind: str) -> bool:
    if field == "truncate":
        return isinstance(value, bool)
    if value is None or field.startswith("mscale") and value == 0:
        return field in FIELDS[kind].optional
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf and (field != "factor" or value >= 1)
