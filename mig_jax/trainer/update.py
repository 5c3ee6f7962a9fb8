"""Build the update of a run from its config: optimizer, loss, compiled train step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.learning import losses, router
from mig_jax.learning.optimizer import make_optimizer, make_schedule
from mig_jax.learning.train_step import TrainState, compile_train_step, init_state, make_train_step, take_minibatch
from mig_jax.models import decoder
from mig_jax.policy.load import Policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.trainer.auto_microbatches import auto_microbatches
from mig_jax.trainer.keys import purpose_key

# Prefixes of the metrics that SFT reports: the others compare with a sampling policy.
SFT_METRICS = ("loss/sft", "policy/", "gradient/", "router/")


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """Return the optimizer of `config.optimizer`, its schedule spread over all updates of the run."""
    o = config.optimizer
    schedule = make_schedule(
        peak_lr=o.peak_lr,
        warmup_steps=o.warmup_steps,
        total_steps=config.steps * o.updates_per_rollout * o.minibatches,
        decay=o.decay,
    )
    return make_optimizer(
        schedule,
        weight_decay=o.weight_decay,
        clip_norm=o.clip_norm,
        b1=o.b1,
        b2=o.b2,
        state_dtype=o.state_dtype,
        key=purpose_key(config.seed, "rounding"),
    )


def plan_microbatches(policy: Policy, config: Config, mode: str) -> tuple[int, int]:
    """Return the number of micro-batches of an update whose rows have their greatest length, and the rows of each."""
    prompts = config.rollout.questions if mode == "train" else config.sft.batch_size
    rows, prompts = (
        n // config.optimizer.minibatches
        for n in (prompts * (config.rollout.group_size if mode == "train" else 1), prompts)
    )
    n = config.optimizer.microbatches
    if not n:
        slots = config.data.max_prompt_tokens + config.rollout.max_new_tokens
        choice = auto_microbatches(policy, config, build_optimizer(config))
        n = choice.choose(rows, slots, units=prompts if policy.config.vision else rows)
    return n, rows // n


def build_loss_settings(config: Config, mode: str) -> losses.LossSettings:
    """Return the coefficients of the loss; SFT uses the SFT term alone: α = β = κ = 0, γ = 1."""
    settings = losses.LossSettings(
        **{field.name: config.loss[field.name] for field in dataclasses.fields(losses.LossSettings)}
    )
    if mode == "sft":
        return dataclasses.replace(settings, alpha=0.0, beta=0.0, gamma=1.0, kl_coef=0.0)
    return settings


def build_loss(config: Config, settings: losses.LossSettings, *, has_experts: bool) -> Callable:
    """Return the loss; with experts, the balance of their routers is a term of it and among its metrics.

    Raises:
      UserError: the balance has a weight, but the model has no experts.
    """
    loss_fn, coef = functools.partial(losses.total_loss, config=settings), config.loss.router_balance
    if coef and not has_experts:
        raise UserError(f"loss.router_balance={coef}: the model has no mixture of experts; set it to 0")
    if not has_experts:
        return loss_fn
    return router.add_balance(loss_fn, coef=coef)


class Update:
    """All updates of a batch: (state, batch) -> (state, metrics of each update). Donates the state.

    Args:
      step: compiled functions of one update.
      mesh: of the run.
      order: index of the mini-batch of each update.
      is_reported: whether a metric, by its name, is returned.
    """

    def __init__(self, step: "CompiledStep", mesh: Mesh, *, order: Sequence[int], is_reported: Callable[[str], bool]):
        self.step, self.mesh, self.order, self.is_reported = step, mesh, order, is_reported
        self._is_whole = len(set(order)) == 1  # one mini-batch: the batch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile update")
        self._compiling: Future | None = None

    def compile_ahead(self, state: TrainState, batch: losses.Batch) -> None:
        """Compile in a thread, which the next call waits for. The compiler works without Python's lock.

        Args:
          state: of the run; only its shapes and shardings are used.
          batch: shapes of the batch.
        """
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)

        def compile_step() -> None:
            with jax.set_mesh(self.mesh):
                part = batch if self._is_whole else jax.eval_shape(self.step.take_minibatch, batch, 0)
                part = sharding.with_shardings(part, sharding.batch_sharding(self.mesh))
                self.step.update.lower(state, part).compile()

        self._compiling = self._thread.submit(compile_step)

    def __call__(self, state: TrainState, batch: losses.Batch) -> tuple[TrainState, list[dict[str, jax.Array]]]:
        if self._compiling:
            self._compiling.result()
            self._compiling = None
        rows = []
        for n in self.order:
            part = batch if self._is_whole else self.step.take_minibatch(batch, n)
            state, metrics = self.step.update(state, part)
            rows.append({name: value for name, value in metrics.items() if self.is_reported(name)})
        return state, rows


def build_update(policy: Policy, config: Config, mode: str) -> tuple[TrainState, Update]:
    """Return the initial state, on the mesh, and what makes all updates of a batch.

    These are `optimizer.updates_per_rollout` passes over its `optimizer.minibatches`. `policy.params` are donated.
    """
    step, o = build_step(policy, config, mode), config.optimizer

    def is_reported(name: str) -> bool:
        return mode == "train" or name.startswith(SFT_METRICS)

    order = list(range(o.minibatches)) * o.updates_per_rollout
    return step.init(policy.params), Update(step, policy.mesh, order=order, is_reported=is_reported)


class CompiledStep(NamedTuple):
    """The compiled functions of an update.

    init: params -> the state before the first update; donates the parameters.
    update: (state, batch) -> (state, metrics), of `jax.jit`; donates the state.
    take_minibatch: (batch, n) -> its n-th of `optimizer.minibatches` parts.
    """

    init: Callable[[Any], TrainState]
    update: Any
    take_minibatch: Callable


def build_step(policy: Policy, config: Config, mode: str) -> CompiledStep:
    """Compile one update. SFT uses the same step as RL, with other coefficients and every SFT gate open."""
    o = config.optimizer
    tx = build_optimizer(config)
    axes = decoder.param_axes(policy.config)
    init = functools.partial(init_state, tx=tx, trainable=policy.is_trainable)
    state_sharding = sharding.shardings(jax.eval_shape(init, policy.params), axes, policy.mesh)
    settings = build_loss_settings(config, mode)
    # SFT imitates text, at temperature 1; the policy gradient is that of the distribution that was sampled from.
    temperature = config.rollout.temperature if mode == "train" else 1.0
    row_sharding = sharding.batch_sharding(policy.mesh)
    has_experts = policy.config.experts is not None
    step = make_train_step(
        make_logprob_fn(
            policy,
            temperature=temperature,
            chunk=o.logprob_tokens,
            need_sft=settings.gamma > 0,
            need_entropy=True,
            need_load=has_experts,
        ),
        build_loss(config, settings, has_experts=has_experts),
        tx,
        key=purpose_key(config.seed, "rounding"),
        aggregate=config.loss.aggregate,
        microbatches=o.microbatches or auto_microbatches(policy, config, tx),
        token_limit=config.rollout.max_new_tokens,
        trainable=policy.is_trainable,
        summarize=router.summarize if has_experts else dict,
    )
    take_part = functools.partial(take_minibatch, parts=o.minibatches)
    return CompiledStep(
        init=jax.jit(init, out_shardings=state_sharding, donate_argnums=0),
        update=compile_train_step(step, state_sharding, row_sharding),
        take_minibatch=jax.jit(take_part, in_shardings=(row_sharding, None), out_shardings=row_sharding),
    )
