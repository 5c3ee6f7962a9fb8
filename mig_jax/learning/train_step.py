"""One pure update of the policy, for every method: what differs between them is the weights of the loss."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mig_jax.learning import losses, stochastic_rounding

LogprobFn = Callable[[Any, losses.Batch], tuple[jax.Array, jax.Array]]
LossFn = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
# Which weights are trained: a predicate on their paths, such as "layers/mlp/up", or a tree of bools like them.
Trainable = Callable[[str], bool] | Any


class TrainState(NamedTuple):
    """Everything that an update changes.

    step: scalar int32, number of updates so far, those that were skipped left out.
    params: pytree of weights, the frozen ones too.
    opt_state: the optimizer's state, of the trained weights alone.
    skipped: scalar int32, number of updates so far that were skipped because their loss or gradient was not finite.
    skipped_in_a_row: scalar int32, those since the last update that was not.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    skipped: jax.Array
    skipped_in_a_row: jax.Array


def train_all(path: str) -> bool:
    """All weights are trained."""
    del path
    return True


def partition(params: Any, trainable: Trainable) -> tuple[Any, Any]:
    """(trained, frozen): two trees like `params`, each with None in the place of what is in the other.

    None is a tree without leaves, so neither gradients nor the optimizer know of it.

    Raises:
      ValueError: no weight is trained.
    """
    if callable(trainable):
        predicate = trainable
        trainable = jax.tree_util.tree_map_with_path(
            lambda path, _: predicate(jax.tree_util.keystr(path, simple=True, separator="/")), params
        )
    if not any(jax.tree.leaves(trainable)):
        raise ValueError("no weight is trained: `trainable` holds for none of their paths; `train_all` for all")
    trained = jax.tree.map(lambda is_trained, x: x if is_trained else None, trainable, params)
    frozen = jax.tree.map(lambda is_trained, x: None if is_trained else x, trainable, params)
    return trained, frozen


def combine(trained: Any, frozen: Any) -> Any:
    """The tree that `partition` has cut."""
    return jax.tree.map(lambda x, y: y if x is None else x, trained, frozen, is_leaf=lambda x: x is None)


def init_state(params: Any, tx: optax.GradientTransformation, trainable: Trainable = train_all) -> TrainState:
    """The state before the first update."""
    # An array each: the state is donated, and no memory can be given away twice.
    step, skipped, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return TrainState(step, params, tx.init(partition(params, trainable)[0]), skipped, in_a_row)


def make_train_step(
    logprob_fn: LogprobFn,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    aggregate: str,
    microbatches: int,
    trainable: Trainable = train_all,
) -> Callable[[TrainState, losses.Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The pure step (state, batch) → (state, metrics).

    An update whose loss or gradient is not finite is skipped: it changes nothing but the count of such updates.

    Args:
      logprob_fn: (params, batch) → logprob_bt, entropy_bt of the completions.
      loss_fn: `losses.total_loss` with its `config`.
      aggregate: how a mean over tokens is taken, see `losses.mean_weights`.
      microbatches: the rows are cut into so many parts, one after the other; the update is the same.
      trainable: that of `init_state`. No gradient is taken of the other weights, and they stay bit for bit.
    """

    def micro_loss(trained, frozen, batch, weights):
        logprob_bt, entropy_bt = logprob_fn(combine(trained, frozen), batch)
        return loss_fn(logprob_bt, entropy_bt, batch, weights)

    def train_step(state: TrainState, batch: losses.Batch):
        weights = losses.stream_token_weights(batch, aggregate=aggregate)
        trained, frozen = partition(state.params, trainable)
        gradients, metrics = sum_gradients(
            functools.partial(jax.grad(micro_loss, has_aux=True), trained, frozen), (batch, weights), microbatches
        )
        gradients = optax.tree.cast(gradients, jnp.float32)
        metrics["gradient/norm"] = optax.tree.norm(gradients)
        updates, opt_state = tx.update(gradients, state.opt_state, trained)
        sums = jax.tree.map(jnp.add, trained, updates)
        params = stochastic_rounding.cast_like(sums, trained, jax.random.fold_in(jax.random.key(1), state.step))
        moved = TrainState(state.step + 1, params, opt_state, state.skipped, jnp.zeros((), jnp.int32))
        stayed = TrainState(state.step, trained, state.opt_state, state.skipped + 1, state.skipped_in_a_row + 1)
        # The norm is not finite where any weight's gradient is not.
        is_finite = jnp.isfinite(metrics["loss/total"]) & jnp.isfinite(metrics["gradient/norm"])
        state = jax.tree.map(functools.partial(jnp.where, is_finite), moved, stayed)
        metrics |= {"gradient/skipped": state.skipped, "gradient/skipped_in_a_row": state.skipped_in_a_row}
        return state._replace(params=combine(state.params, frozen)), metrics

    return train_step


def sum_gradients(gradient_fn: Callable, rows: Any, microbatches: int) -> tuple[Any, dict[str, jax.Array]]:
    """Σ over micro-batches of gradient_fn(*rows), one part at a time; exact, because the weights are the batch's.

    Raises:
      ValueError: the rows cannot be cut into equal parts.
    """
    if microbatches == 1:
        return gradient_fn(*rows)
    dealt = split_microbatches(rows, microbatches)
    shapes = jax.eval_shape(gradient_fn, *jax.tree.map(lambda x: x[0], dealt))
    # At least in float32: hundreds of parts in bfloat16 would soon be too small to be added.
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.promote_types(s.dtype, jnp.float32)), shapes)

    def add(total, part):
        return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, gradient_fn(*part)), None

    return jax.lax.scan(add, zeros, dealt)[0]


def split_microbatches(rows: Any, parts: int) -> Any:
    """Leaves of B rows as `[parts, B / parts, …]`, each part a batch of its own.

    Rows are dealt out like cards, so that a batch sharded over devices stays evenly sharded in every part. Where a leaf
    has fewer rows than the others (images: one for each question), those rows of the others that stand behind one of
    its rows are dealt out together: with U rows in the smallest leaf, `[U·r, …]` → `[U/parts, parts, r, …]`.

    Raises:
      ValueError: the smallest leaf cannot be cut into equal parts, or others are no multiple of it.
    """
    sizes = sorted({x.shape[0] for x in jax.tree.leaves(rows)})
    units = sizes[0]
    problems = [f"{units} rows cannot be cut into {parts} micro-batches"] if units % parts else []
    problems += [f"{size} rows do not belong to {units} in equal groups" for size in sizes if size % units]
    if problems:
        raise ValueError("; ".join(problems) + f": leading axes of the batch are {sizes}")

    def deal_leaf(x):
        cards = x.reshape(units // parts, parts, x.shape[0] // units, *x.shape[1:])
        return cards.swapaxes(0, 1).reshape(parts, x.shape[0] // parts, *x.shape[1:])

    return jax.tree.map(deal_leaf, rows)


def compile_train_step(train_step: Callable, state_sharding: Any, batch_sharding: Any) -> Callable:
    """The step compiled with shardings; the state is donated, so its memory is used again."""
    return jax.jit(
        train_step,
        in_shardings=(state_sharding, batch_sharding),
        out_shardings=(state_sharding, None),
        donate_argnums=0,
    )
