"""Rotary position embedding: which angle turns which pair of dimensions, in the variants that models publish.

All is rounded to float32 where Hugging Face rounds (`modeling_rope_utils.py` of transformers 5): far out, at position
30,000, the last bit of a frequency shows in the logits.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

Rope = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How frequencies were changed for contexts longer than those of pretraining. Names are those of config.json.

    kind: a key of `KINDS`; each of them says which of the other fields it reads.
    factor: how many times longer contexts became.
    original_max_position_embeddings: the context of pretraining, in tokens.
    low_freq_factor, high_freq_factor: turns within that context, below which llama3 changes a frequency entirely, and
      above which not at all.
    beta_fast, beta_slow: the same for yarn, the other way round: turns above which a frequency stays, and below which
      it is divided.
    truncate: yarn's bounds are whole numbers of pairs.
    attention_factor: by which yarn multiplies cos and sin; None: what follows from the factor.
    mscale, mscale_all_dim: how, if both are given and not 0: by the quotient of two of these factors.

    Raises:
      ValueError: the kind is unknown, or it lacks or cannot use a field; all of it is listed.
    """

    kind: str
    factor: float
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float = 32
    beta_slow: float = 1
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def __post_init__(self):
        if problems := list(_problems(self)):
            raise ValueError("\n".join(problems))


def frequencies(head_size: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
    """θ^(−2i/H), i < H/2, or what `scaling` makes of it: float32 `[H/2]`, radians a token."""
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    # The float32 next to the true power, as in torch; numpy's own float32 power misses it for a pair in five.
    wavelength = np.power(np.float64(np.float32(theta)), exponent.astype(np.float64)).astype(np.float32)
    return KINDS[scaling.kind](wavelength, theta, scaling) if scaling else 1 / wavelength


def magnitude(scaling: RopeScaling | None) -> float:
    """What cos and sin are multiplied by: 1, or yarn's attention factor, 0.1·ln(factor) + 1 unless it is given."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return float(scaling.attention_factor)
    if scaling.mscale and scaling.mscale_all_dim:
        return _mscale(scaling.factor, scaling.mscale) / _mscale(scaling.factor, scaling.mscale_all_dim)
    return _mscale(scaling.factor, 1)


def angles(
    position_bt: jax.Array, frequency_f: np.ndarray, sections: tuple[int, ...] = (), magnitude: float = 1.0
) -> Rope:
    """cos and sin of position · frequency, times `magnitude`: each float32 `[B, T, H/2]`.

    Args:
      position_bt: `[B, T]`; or `[B, T, 3]`, with positions in time, height and width (M-RoPE).
      frequency_f: `[H/2]`.
      sections: how many frequencies, in order, belong to time, height and width. A text's three positions are equal,
        so for `[B, T]` they make no difference.
    """
    position = position_bt.astype(jnp.float32)
    if position.ndim == 3:
        position = position[..., np.repeat(np.arange(3), sections)]
    else:
        position = position[..., None]
    angle = position * frequency_f[None, None]
    return jnp.cos(angle) * magnitude, jnp.sin(angle) * magnitude


def rotate(x_btnh: jax.Array, rope: Rope) -> jax.Array:
    """Queries or keys, turned; dimension i is paired with i + H/2, as Hugging Face does."""
    cos, sin = (part[:, :, None] for part in rope)
    left, right = jnp.split(x_btnh.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x_btnh.dtype)


def _linear(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """1 / (λ · factor): positions are squeezed into the old context (arXiv 2306.15595). Reads factor."""
    return 1 / wavelength / np.float32(scaling.factor)


def _llama3(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Low frequencies are divided by `factor`, high ones stay, between them a blend (Llama 3.1, arXiv 2407.21783).

        n = original context / wavelength: turns within the original context
        w = clip((n − low_freq_factor) / (high_freq_factor − low_freq_factor), 0, 1)
        f' = (1 − w) · f / factor + w · f

    Reads factor, low_freq_factor, high_freq_factor, original_max_position_embeddings.
    """
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position_embeddings
    frequency = 1 / wavelength
    # Quotients in two roundings, as torch divides a number by an array.
    length = 1 / frequency * (2 * math.pi)
    weight = (1 / length * context - low) / (high - low)
    blend = (1 - weight) * frequency / scaling.factor + weight * frequency
    # Not by clipping the weight: outside the blend nothing may be rounded twice.
    divided = np.where(length > context / low, frequency / scaling.factor, blend)
    return np.where(length < context / high, frequency, divided).astype(np.float32)


def _yarn(wavelength: np.ndarray, theta: float, scaling: RopeScaling) -> np.ndarray:
    """As llama3, but the blend is linear in the number of the pair (YaRN, arXiv 2309.00071, "NTK by parts").

        i(r) = H · ln(original context / (2π r)) / (2 ln θ): the pair that turns r times within the original context
        w_i = 1 − clip((i − i(beta_fast)) / (i(beta_slow) − i(beta_fast)), 0, 1)
        f' = (1 − w) · f / factor + w · f

    Reads factor, original_max_position_embeddings, beta_fast, beta_slow, truncate; and see `magnitude`.
    """
    head_size, context = 2 * wavelength.size, scaling.original_max_position_embeddings
    first, last = (
        head_size * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    # To H − 1, although there are H/2 pairs: so it was published, and so models were trained.
    first, last = max(first, 0), min(last, head_size - 1)
    ramp = (np.arange(wavelength.size, dtype=np.float32) - first) / (last - first or 0.001)
    weight = 1 - np.clip(ramp, 0, 1)
    return (1 / (scaling.factor * wavelength) * (1 - weight) + 1 / wavelength * weight).astype(np.float32)


KINDS: dict[str, Callable[[np.ndarray, float, RopeScaling], np.ndarray]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
# What config.json says of each kind: what it must, and what it may.
FIELDS = {
    "linear": (("factor",), ()),
    "llama3": (("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"), ()),
    "yarn": (
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
}


def _mscale(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def _problems(scaling: RopeScaling) -> Iterator[str]:
    """Everything that keeps `scaling` from being computed, with what would be supported."""
    if not isinstance(scaling.kind, str) or scaling.kind not in KINDS:
        yield f"rope type = {scaling.kind!r}; supported: 'default', {', '.join(map(repr, KINDS))}"
        return
    values = dataclasses.asdict(scaling)
    unusable = [field for field in sum(FIELDS[scaling.kind], ()) if not _is_usable(field, values[field], scaling.kind)]
    for field in unusable:
        yield f"{field} = {values[field]!r} of {scaling.kind} rope; supported: {_USABLE.get(field, 'a number above 0')}"
    if scaling.kind == "llama3" and not unusable and scaling.low_freq_factor >= scaling.high_freq_factor:
        yield "low_freq_factor ≥ high_freq_factor of llama3 rope; supported: the other way round"
    if scaling.kind == "yarn" and not unusable and scaling.beta_slow > scaling.beta_fast:
        yield "beta_slow > beta_fast of yarn rope; supported: the other way round"


def _is_usable(field: str, value: object, kind: str) -> bool:
    if field == "truncate":
        return isinstance(value, bool)
    if value is None or field.startswith("mscale") and value == 0:
        return field in FIELDS[kind][1]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    return is_number and (field != "factor" or value >= 1)


_USABLE = {"factor": "a number of at least 1", "truncate": "true or false"}
