"""Bias of the process stream on when to stop reasoning, by exact enumeration: no sampling, no model.

    python benchmarks/process_bias.py

The first step of a response is right or wrong, and settles what the process reward is. Then the policy may write one or
two further steps that earn nothing, closes the reasoning, and answers:

    <think>  right | wrong  (step | </think>) …  right answer | wrong answer

So nothing can be gained by another step, and the expected gradient of the process stream at these decisions should be
0. It is computed from all responses, all groups of two and, where the scale is that of the batch, all batches of two
groups, with the functions that training uses. Two policies: P(another step) is independent of the first step, with one
parameter for each position; or depends on it, with a parameter for each position and first step.

The table gives the change of the log-odds of another step that gradient ascent makes, summed over the positions, as a
share of its change of the log-odds of the right first step. 0 is exact up to rounding. Tables below it: the mean over
tokens with more rows, the bias of clipping once an update has moved the policy, and the KL estimate.
"""

import argparse
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mig_jax import rewards
from mig_jax.learning import advantages, losses, policy_gradient

MASKS = ("closing", "think")
FURTHER_STEPS = 2
TOKENS = FURTHER_STEPS + 4  # <think>, first step, further steps, </think>, answer
DEPENDENT = ("after a wrong step", "after a right step", "their sum")
ZERO = 1e-7
EPS = 0.01


class Params(NamedTuple):
    """Log-odds of the policy's decisions.

    first: of a right first step.
    more_kf: `[FURTHER_STEPS, 1 or 2]` of another step, at each position; with two columns, after a wrong and after a
      right first step.
    answer_f: `[2]` of a right answer, after a wrong and after a right first step.
    """

    first: ArrayLike
    more_kf: Any
    answer_f: Any


class Response(NamedTuple):
    """One response: whether its first step and its answer are right (0 or 1), and the number of further steps."""

    first: int
    further: int
    answer: int


RESPONSES = tuple(itertools.starmap(Response, itertools.product((0, 1), range(FURTHER_STEPS + 1), (0, 1))))


def independent_policy() -> Params:
    """Return a policy whose P(another step) = 0.5 does not depend on the first step."""
    return Params(np.float32(-0.4), np.zeros((FURTHER_STEPS, 1), np.float32), np.array([-2.0, 2.0], np.float32))


def dependent_policy() -> Params:
    """Return a policy with P(another step) = 0.3 after a wrong first step, and 0.6 after a right one."""
    log_odds_f = np.log(np.array([0.3 / 0.7, 0.6 / 0.4], np.float32))
    return Params(np.float32(-0.4), np.tile(log_odds_f, (FURTHER_STEPS, 1)), np.array([-2.0, 2.0], np.float32))


# --------------------------------------------------------------------------------------------------------- one response


@jax.jit
def logprobs(params: Params) -> jax.Array:
    """Return the log-prob of each token of each response, `[R, T]`; 0 at padding, and where there is no choice."""

    def choose(log_odds, chosen):
        return jax.nn.log_sigmoid(log_odds if chosen else -log_odds)

    rows = []
    for first, further, answer in RESPONSES:
        more_k = params.more_kf[:, first % params.more_kf.shape[1]]
        closing = [choose(more_k[further], 0)] if further < FURTHER_STEPS else [jnp.zeros(())]
        row = [jnp.zeros(()), choose(params.first, first), *(choose(more_k[k], 1) for k in range(further)), *closing]
        row += [choose(params.answer_f[first], answer)]
        rows.append(jnp.stack(row + [jnp.zeros(())] * (TOKENS - len(row))))
    return jnp.stack(rows)


def steps_of_tokens(mask: str) -> np.ndarray:
    """Return the step of each token of each response, `[R, T]`, −1 outside a mask."""
    step_rt = np.full((len(RESPONSES), TOKENS), -1)
    for row, (_, further, _) in zip(step_rt, RESPONSES, strict=True):
        decisions = 1 + further + (mask == "closing")
        row[1 : 1 + decisions] = range(decisions)
    return step_rt


def groups_of_likelihoods() -> rewards.Group:
    """Return all responses as a group: ℓ is −1 before the first step and after a wrong one, and 0 after a right one."""
    steps = np.arange(FURTHER_STEPS + 1)[None, :] <= np.array([r.further for r in RESPONSES])[:, None]
    right = np.array([r.first for r in RESPONSES])[:, None]
    ell = np.pad(np.where(steps, right - 1.0, 0.0), ((0, 0), (1, 0)), constant_values=-1.0)
    is_correct = np.array([bool(r.answer) for r in RESPONSES])
    valid = np.pad(steps, ((0, 0), (1, 0)), constant_values=True)
    return rewards.Group(*map(jnp.asarray, (ell, valid, steps.astype(int), steps.astype(int), is_correct)))


# ------------------------------------------------------------------------------------------------------- all batches


def enumerate_batches(params: Params, groups: int) -> tuple[jax.Array, jax.Array]:
    """Return all batches of `groups` groups of two, `[P, B]` indices of responses, and their probabilities `[P]`."""
    index_pb = np.array(list(itertools.product(range(len(RESPONSES)), repeat=2 * groups)))
    return jnp.asarray(index_pb), jnp.exp(np.asarray(logprobs(params)).sum(1)[index_pb].sum(1))


@functools.partial(jax.jit, static_argnames=("mask", "advantage", "scale", "credit_level"))
def make_batches(
    index_pb: jax.Array, old_logprob_rt: jax.Array, *, mask: str, advantage: str, scale: str, credit_level: str
) -> losses.Batch:
    """Return the batches as one `Batch` with a leading axis P."""
    group = groups_of_likelihoods()
    credit = jax.vmap(rewards.make_credit("watermark"))(jax.tree.map(lambda x: x[index_pb.reshape(-1, 2)], group))
    step_pbt, (batches, rows) = jnp.asarray(steps_of_tokens(mask))[index_pb], index_pb.shape

    def spread(reward_qg, gain_qgk, valid_qgk, step_bt):
        options: dict[str, Any] = {"advantage": advantage, "scale": scale, "eps": EPS, "discount": 1.0}
        return advantages.CREDIT_LEVELS[credit_level](reward_qg, gain_qgk, valid_qgk, step_bt, **options)

    reward_pqg = credit.reward_g.reshape(batches, rows // 2, 2)
    gain_pqgk, valid_pqgk = (
        x.reshape(batches, rows // 2, 2, -1) for x in (credit.gain_gk, group.valid_gk[index_pb][..., 1:])
    )
    zeros_pbt = jnp.zeros((batches, rows, TOKENS))
    lengths = np.array([response.further + 4 for response in RESPONSES])
    return losses.Batch(
        token_bs=zeros_pbt,
        start_b=zeros_pbt[..., 0],
        full_mask_bt=jnp.asarray(np.arange(TOKENS) < lengths[:, None])[index_pb],
        cot_mask_bt=step_pbt >= 0,
        old_logprob_bt=old_logprob_rt[index_pb],
        ref_logprob_bt=None,
        process_advantage_bt=jax.vmap(spread)(reward_pqg, gain_pqgk, valid_pqgk, step_pbt),
        outcome_advantage_bt=zeros_pbt,
        gate_b=zeros_pbt[..., 0] > 0,
    )


def loss_settings(**changes: Any) -> losses.LossSettings:
    """Return the settings of the process stream alone, with the default bounds."""
    settings: dict[str, Any] = {"alpha": 1.0, "beta": 0.0, "gamma": 0.0, "kl_coef": 0.0}
    settings |= {"policy_loss": "clip", "ratio": "token"}
    settings |= {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
    return losses.LossSettings(**settings | changes)


@functools.partial(jax.jit, static_argnames="settings")
def expected_gradient(
    params: Params,
    index_pb: jax.Array,
    probability_p: jax.Array,
    batch: losses.Batch,
    weights: losses.TokenWeights,
    settings: losses.LossSettings,
) -> Params:
    """Return Σ_p P(p) ∇ loss of batch p: the expected gradient of an update."""

    def expected_loss(params):
        logprob_pbt = logprobs(params)[index_pb]
        loss = functools.partial(losses.total_loss, config=settings)
        return jax.vmap(loss)(logprob_pbt, 0.0 * logprob_pbt, logprob_pbt, batch, weights)[0] @ probability_p

    return jax.grad(expected_loss)(params)


@functools.partial(jax.jit, static_argnames="aggregate")
def weigh_tokens(batch: losses.Batch, *, aggregate: str) -> losses.TokenWeights:
    """Return the token weights of batches with a leading axis P."""
    return jax.vmap(functools.partial(losses.stream_token_weights, aggregate=aggregate))(batch)


def process_gradient(
    params: Params,
    *,
    mask: str = "closing",
    aggregate: str = "tokens",
    advantage: str = "group_mean",
    scale: str = "group_std",
    credit_level: str = "trajectory",
    groups: int = 1,
    old_params: Params | None = None,
    **settings: Any,
) -> Params:
    """Return the expected gradient of the process stream over all batches that `old_params` samples.

    `settings` are changes to those of the loss.
    """
    old_params = params if old_params is None else old_params
    index_pb, probability_p = enumerate_batches(old_params, groups)
    options = {"mask": mask, "advantage": advantage, "scale": scale, "credit_level": credit_level}
    batch = make_batches(index_pb, logprobs(old_params), **options)
    weights = weigh_tokens(batch, aggregate=aggregate)
    return expected_gradient(params, index_pb, probability_p, batch, weights, loss_settings(**settings))


def gradient_of_token_mean(params: Params, *, mask: str, groups: int) -> Params:
    """Return the gradient of `process_gradient` with aggregate="tokens" for any number of groups.

    The rows of the other groups change the loss of a group through their number of tokens alone. So one row without
    advantage stands for them; the distribution of its length is that of a sum.
    """
    index_pb, probability_p = enumerate_batches(params, 1)
    options = {"advantage": "group_mean", "scale": "group_std", "credit_level": "trajectory"}
    batch = make_batches(index_pb, logprobs(params), mask=mask, **options)
    lengths = (steps_of_tokens(mask) >= 0).sum(1)
    one = np.bincount(lengths, weights=np.asarray(jnp.exp(logprobs(params).sum(1)), np.float64))
    rest = functools.reduce(np.convolve, [one] * (2 * groups - 2), np.ones(1))
    total = Params(*map(jnp.zeros_like, params))
    for length, probability in enumerate(rest):
        tokens_p = batch.cot_mask_bt.sum((1, 2)) + length
        weights = losses.TokenWeights(*[batch.cot_mask_bt / tokens_p[:, None, None]] * len(losses.TokenWeights._fields))
        part = expected_gradient(params, index_pb, probability_p, batch, weights, loss_settings())
        total = jax.tree.map(lambda x, y, p=probability: x + groups * p * y, total, part)
    return total


# ------------------------------------------------------------------------------------------------------------------ KL


@functools.partial(jax.jit, static_argnames="weighted")
def kl_by_sampling(params: Params, old_params: Params, ref_params: Params, *, weighted: bool = True) -> jax.Array:
    """Return the expectation over all responses of the KL term that the loss adds, summed over tokens.

    Args:
      params, old_params, ref_params: of πθ, of the policy that samples, of the reference.
      weighted: the loss's own term; or the plain estimate k3.
    """
    old_rt, ref_rt, new_rt = logprobs(old_params), logprobs(ref_params), logprobs(params)
    probability_r = jnp.exp(old_rt.sum(1))
    kl_rt = policy_gradient.kl_estimate(new_rt, ref_rt)
    if weighted:
        kl_rt = policy_gradient.reference_kl(new_rt, old_rt, ref_rt)
    return probability_r @ kl_rt.sum(1)


@functools.partial(jax.jit, static_argnames="reverse")
def exact_kl(params: Params, old_params: Params, ref_params: Params, *, reverse: bool = False) -> jax.Array:
    """Return Σ over decisions of P(π_old reaches it) · KL(πθ ‖ π_ref) there; of KL(π_ref ‖ πθ) if `reverse`."""

    def kl(log_odds, ref_log_odds):
        p, q = (ref_log_odds, log_odds) if reverse else (log_odds, ref_log_odds)
        terms = (jax.nn.sigmoid(s * p) * (jax.nn.log_sigmoid(s * p) - jax.nn.log_sigmoid(s * q)) for s in (1, -1))
        return sum(terms)

    first_f = jax.nn.sigmoid(jnp.stack([-old_params.first, old_params.first]))
    reached_kf = jnp.cumprod(jnp.pad(jax.nn.sigmoid(old_params.more_kf[:-1]), ((1, 0), (0, 0)), constant_values=1), 0)
    reached = Params(jnp.ones(()), reached_kf * first_f[None], first_f)
    terms = jax.tree.map(
        lambda reach, *odds: jnp.sum(jax.lax.stop_gradient(reach) * kl(*odds)), reached, params, ref_params
    )
    return sum(terms, jnp.zeros(()))


# -------------------------------------------------------------------------------------------------------------- report


def bias(gradient: Params) -> list[float]:
    """Return the pull on the log-odds of another step, relative to the pull on `first`.

    One number for each column of `more_kf`, and if there are two, their sum: the pull on a term that both share.
    """
    entries = np.where(np.abs(gradient.more_kf) > ZERO, gradient.more_kf, 0.0)
    shares = (entries.sum(0) / float(gradient.first)).tolist()
    return shares if len(shares) == 1 else [*shares, sum(shares)]


def describe(share: float) -> str:
    """Return a share with its direction."""
    return "0" if share == 0 else f"{abs(share):.1%} {'more' if share > 0 else 'fewer'}"


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def report_options() -> None:
    """Print the bias of every mask, aggregate, advantage and scale."""
    rows, by_step, by_loss = [], 0.0, 0.0
    for mask, aggregate, advantage, scale in itertools.product(
        MASKS, losses.AGGREGATES, advantages.ADVANTAGES, advantages.SCALES
    ):
        options: dict[str, Any] = {"mask": mask, "aggregate": aggregate, "advantage": advantage, "scale": scale}
        options["groups"] = 2 if scale == "batch_std" else 1
        row = [mask, aggregate, advantage, scale]
        for params in (independent_policy(), dependent_policy()):
            gradient = process_gradient(params, **options)
            row += map(describe, bias(gradient))
            steps = process_gradient(params, **options, credit_level="step")
            by_step = max(by_step, float(jnp.abs(steps.more_kf).max()))
            for policy_loss, ratio in itertools.product(losses.LOSSES, losses.RATIOS):
                other = process_gradient(params, **options, policy_loss=policy_loss, ratio=ratio)
                by_loss = max(by_loss, float(jnp.abs(other.more_kf - gradient.more_kf).max()))
        rows.append(row)
    header = ["mask", "aggregate", "advantage", "scale", "independent", *DEPENDENT]
    print_table("On policy, credit_level=trajectory", header, rows)
    print(f"\ncredit_level=step: largest gradient of all these at another step {by_step:.1e}")
    print(f"any policy loss and ratio instead of clip and token: largest difference {by_loss:.1e}")


def report_rows() -> None:
    """Print the bias of the mean over tokens by the number of rows."""
    rows = []
    for mask, groups in itertools.product(MASKS, (1, 2, 4, 8, 16)):
        shares = bias(gradient_of_token_mean(dependent_policy(), mask=mask, groups=groups))
        rows.append([mask, f"{2 * groups}", *map(describe, shares)])
    print_table("aggregate=tokens, dependent policy", ["mask", "rows", *DEPENDENT], rows)


def report_off_policy() -> None:
    """Print the bias after an update has moved the sampling policy."""
    variants: dict[str, dict[str, Any]] = {
        f"{policy_loss}, {ratio} ratio": {"policy_loss": policy_loss, "ratio": ratio}
        for policy_loss, ratio in itertools.product(losses.LOSSES, losses.RATIOS)
    }
    variants["clip, token ratio, no bounds"] = {"clip_low": 1.0, "clip_high": 100.0}
    rows = []
    for name, settings in variants.items():
        row = [name]
        for old_params in (independent_policy(), dependent_policy()):
            params = old_params._replace(first=old_params.first + 0.2, more_kf=old_params.more_kf + 0.5)
            gradient = process_gradient(params, old_params=old_params, aggregate="constant", **settings)
            row += map(describe, bias(gradient))
        rows.append(row)
    header = ["policy loss", "independent", *DEPENDENT]
    print_table(
        "Log-odds moved by 0.2 (first step) and 0.5 (another step); mask=closing, aggregate=constant", header, rows
    )


def report_kl() -> None:
    """Print how far value and gradient of the KL term are from the exact ones."""
    ref = jax.tree.map(lambda x: x + jnp.linspace(-1.0, 0.7, x.size).reshape(x.shape), dependent_policy())
    moved = jax.tree.map(lambda x: x + 0.5, dependent_policy())
    rows = []
    for name, old in (("on policy", moved), ("off policy", dependent_policy())):
        for estimate, weighted in (("k3 · ratio (the loss)", True), ("k3", False)):
            by_sampling = jax.value_and_grad(functools.partial(kl_by_sampling, weighted=weighted))(moved, old, ref)
            row = [name, estimate]
            for reverse in (False, True):
                exact = jax.value_and_grad(functools.partial(exact_kl, reverse=reverse))(moved, old, ref)
                apart = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), by_sampling, exact)
                row += [f"{value:.1e}" for value in (apart[0], max(apart[1]))]
            rows.append(row)
    header = ["", "estimate", "value", "gradient", "value of KL(π_ref ‖ πθ)", "its gradient"]
    print_table("Largest distance from the exact KL(πθ ‖ π_ref), where π_old goes", header, rows)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    jax.config.update("jax_enable_x64", True)
    report_options()
    report_rows()
    report_off_policy()
    report_kl()


if __name__ == "__main__":
    main()
