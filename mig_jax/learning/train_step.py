"""The train step: one pure update of the policy. Methods differ in the coefficients of their loss alone."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from mig_jax.learning import losses, stochastic_rounding
from mig_jax.learning.microbatches import split_microbatches, sum_gradients

Metrics = dict[str, jax.Array]
# (params, batch) → logprob_bt, entropy_bt and sft_logprob_bt of the completions, `[B, T]`, in nats; the last one is at
# temperature 1, the others at that of sampling. What else it returns is for the loss as well.
LogprobFn = Callable[[Any, losses.Batch], tuple[Any, ...]]
# (logprob_bt, entropy_bt, sft_logprob_bt, …, batch, token_weights) → the loss and its metrics.
LossFn = Callable[..., tuple[jax.Array, Metrics]]
# Which parameters are trained: a predicate on their paths, such as "layers/mlp/up", or a tree of bools like theirs.
Trainable = Callable[[str], bool] | Any


class TrainState(NamedTuple):
    """Everything that an update changes.

    step: scalar int32, number of updates so far, without those that were skipped.
    params: pytree of all parameters, the frozen ones included.
    opt_state: state of the optimizer, for the trained parameters alone.
    skipped: scalar int32, number of updates skipped so far because their loss or gradient was not finite.
    skipped_in_a_row: scalar int32, number of updates skipped since the last one that was not.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    skipped: jax.Array
    skipped_in_a_row: jax.Array


def train_all(path: str) -> bool:
    """Return True for every path: all parameters are trained."""
    del path
    return True


def partition(params: Any, trainable: Trainable) -> tuple[Any, Any]:
    """Split parameters into trained and frozen ones.

    Args:
      params: pytree of parameters.
      trainable: predicate on paths, or tree of bools.

    Returns:
      (trained, frozen): two trees like `params`, each with None in the place of what is in the other. None is a tree
      without leaves, so gradients and the optimizer skip it.

    Raises:
      ValueError: no parameter is trained.
    """
    if callable(trainable):
        predicate = trainable
        trainable = jax.tree_util.tree_map_with_path(
            lambda path, _: predicate(jax.tree_util.keystr(path, simple=True, separator="/")), params
        )
    if not any(jax.tree.leaves(trainable)):
        raise ValueError("no parameter is trained: `trainable` is False for every path; use `train_all` to train all")
    trained = jax.tree.map(lambda is_trained, x: x if is_trained else None, trainable, params)
    frozen = jax.tree.map(lambda is_trained, x: None if is_trained else x, trainable, params)
    return trained, frozen


def combine(trained: Any, frozen: Any) -> Any:
    """Merge the two trees of `partition` into one."""
    return jax.tree.map(lambda x, y: y if x is None else x, trained, frozen, is_leaf=lambda x: x is None)


def init_state(params: Any, tx: optax.GradientTransformation, trainable: Trainable = train_all) -> TrainState:
    """Return the state before the first update; arguments as in `make_train_step`."""
    # One array for each counter: the state is donated, and no buffer can be donated twice.
    step, skipped, skipped_in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    trained, _ = partition(params, trainable)
    return TrainState(step, params, tx.init(trained), skipped, skipped_in_a_row)


def make_train_step(
    logprob_fn: LogprobFn,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    key: jax.Array,
    aggregate: str,
    microbatches: int | Callable[[losses.Batch], int],
    token_limit: int = 0,
    trainable: Trainable = train_all,
    summarize: Callable[[Metrics], Metrics] = dict,
) -> Callable[[TrainState, losses.Batch], tuple[TrainState, Metrics]]:
    """Return the pure step (state, batch) → (state, metrics).

    An update whose loss or gradient is not finite is skipped: only the counters of skipped updates change.

    Args:
      logprob_fn: (params, batch) → logprob_bt, entropy_bt, sft_logprob_bt of the completions.
      loss_fn: `losses.total_loss` with its `config`.
      tx: optimizer; its gradients are float32.
      key: random key of the stochastic rounding of the parameters, see `stochastic_rounding.rounding_key`.
      aggregate: how a mean over tokens is taken, one of `losses.AGGREGATES`.
      microbatches: number of parts of the batch whose gradients are computed one after the other; the update is the
        same for any number. Or a function of the batch, whose arrays are tracers, that returns it.
      token_limit: see `losses.stream_token_weights`.
      trainable: that of `init_state`. The other parameters get no gradient and stay bit for bit.
      summarize: metrics, summed over the micro-batches → those to report.
    """

    def microbatch_loss(trained, frozen, batch, token_weights):
        return loss_fn(*logprob_fn(combine(trained, frozen), batch), batch, token_weights)

    def train_step(state: TrainState, batch: losses.Batch) -> tuple[TrainState, Metrics]:
        token_weights = losses.stream_token_weights(batch, aggregate=aggregate, token_limit=token_limit)
        trained, frozen = partition(state.params, trainable)
        gradient_fn = functools.partial(jax.grad(microbatch_loss, has_aux=True), trained, frozen)
        parts = microbatches(batch) if callable(microbatches) else microbatches
        gradients, metrics = sum_gradients(gradient_fn, (batch, token_weights), parts)
        metrics = summarize(metrics)
        gradients = optax.tree.cast(gradients, jnp.float32)
        metrics["gradient/norm"] = optax.tree.norm(gradients)
        # The norm is not finite if the gradient of any parameter is not.
        is_finite = jnp.isfinite(metrics["loss/total"]) & jnp.isfinite(metrics["gradient/norm"])
        state = state._replace(params=trained)
        updated, skipped = _apply_gradients(state, gradients, tx, key), _skip_update(state)
        state = jax.tree.map(functools.partial(jnp.where, is_finite), updated, skipped)
        metrics |= {"gradient/skipped": state.skipped, "gradient/skipped_in_a_row": state.skipped_in_a_row}
        return state._replace(params=combine(state.params, frozen)), metrics

    return train_step


def _apply_gradients(state: TrainState, gradients: Any, tx: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Return the state, of trained parameters alone, after an update."""
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    key = stochastic_rounding.rounding_key(key, "params", state.step)
    params = stochastic_rounding.cast_like(jax.tree.map(jnp.add, state.params, updates), state.params, key)
    return TrainState(state.step + 1, params, opt_state, state.skipped, jnp.zeros((), jnp.int32))


def _skip_update(state: TrainState) -> TrainState:
    """Return the state after an update that was skipped."""
    return state._replace(skipped=state.skipped + 1, skipped_in_a_row=state.skipped_in_a_row + 1)


def take_minibatch(batch: losses.Batch, n: ArrayLike, parts: int) -> losses.Batch:
    """Return the rows of mini-batch n: row n of every `parts` rows, dealt out as in `split_microbatches`.

    Args:
      batch: the rows of a rollout.
      n: number of the mini-batch, from 0; may be traced.
      parts: number of mini-batches; 1 returns the batch as it is.

    Raises:
      ValueError: the rows cannot be split into equal parts.
    """
    if parts == 1:
        return batch
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, n, keepdims=False), split_microbatches(batch, parts))


def compile_train_step(train_step: Callable, state_sharding: Any, batch_sharding: Any) -> Callable:
    """Return the compiled step, with the given shardings; the state is donated, so its memory is reused."""
    return jax.jit(
        train_step,
        in_shardings=(state_sharding, batch_sharding),
        out_shardings=(state_sharding, None),
        donate_argnums=0,
    )
