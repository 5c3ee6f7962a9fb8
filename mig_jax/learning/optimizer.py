"""The learning-rate schedule, and AdamW after a clip of the gradient."""

from typing import Any

import jax
import optax

from mig_jax.learning import stochastic_rounding


def make_schedule(*, peak_lr: float, warmup_steps: int, total_steps: int, decay: str) -> optax.Schedule:
    """Return the learning rate of each update: a linear warm-up, then a constant or a cosine.

    Args:
      peak_lr: learning rate after `warmup_steps` updates.
      warmup_steps: updates of the linear rise, from peak_lr / (warmup_steps + 1); 0 for none.
      total_steps: updates of the whole run; the cosine reaches 0 at the end of it.
      decay: "constant" or "cosine", after the warm-up.

    Returns:
      A function from the number of updates so far to the learning rate.

    Raises:
      ValueError: `decay` is unknown.
    """
    if decay == "cosine":
        after = optax.cosine_decay_schedule(peak_lr, max(total_steps - warmup_steps, 1))
    elif decay == "constant":
        after = optax.constant_schedule(peak_lr)
    else:
        raise ValueError(f"unknown decay {decay!r}; use 'constant' or 'cosine'")
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(peak_lr / (warmup_steps + 1), peak_lr, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float,
    clip_norm: float,
    b1: float,
    b2: float,
    state_dtype: str,
    key: jax.Array,
) -> optax.GradientTransformation:
    """Return AdamW that clips the global gradient norm first.

    Weight decay applies to matrices, never to norms and biases. Adapters are matrices: they decay towards 0, which is
    the model that they adapt.

    Args:
      learning_rate: a number, or a schedule such as that of `make_schedule`.
      weight_decay: decoupled decay, multiplied by the learning rate.
      clip_norm: largest norm of the gradient of all trained parameters together.
      b1, b2: decay rates of Adam's first and second moment.
      state_dtype: dtype of both moments between updates, see `stochastic_rounding.scale_by_adam`.
      key: random key of their stochastic rounding, see `stochastic_rounding.rounding_key`.

    Returns:
      An optax transformation; its update needs the parameters.

    References:
      Loshchilov and Hutter, arXiv 1711.05101.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.chain(
            stochastic_rounding.scale_by_adam(b1=b1, b2=b2, dtype=state_dtype, key=key),
            optax.add_decayed_weights(weight_decay, mask=_decay_mask),
            optax.scale_by_learning_rate(learning_rate),
        ),
    )


def _decay_mask(params: Any) -> Any:
    """Return a tree of bools, False for norms and biases; by name, because stacked layers give biases two axes."""

    def decays(path, _):
        name = jax.tree_util.keystr(path)
        return "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(decays, params)
