"""Score responses step by step: likelihoods of the reference answer, and the credit that a rule derives from them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax import rewards
from mig_jax.config import RewardConfig
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.models import decoder, sampler
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.policy import encoding
from mig_jax.policy.completions import ParsedCompletion, stack_cuts
from mig_jax.policy.generate import encode_images
from mig_jax.policy.load import Policy
from mig_jax.policy.logprobs import vocab_block


class Scores(NamedTuple):
    """Step scores of B responses; ℓ in nats, gains and rewards in the unit of the credit rule.

    ell_bk: `[B, K+1]` log-likelihood of the reference answer before the first step and after each.
    watermark_bk: `[B, K+1]` running maximum of `ell_bk`.
    gain_bk: `[B, K]` gain of each step.
    reward_b: `[B]` process reward.
    """

    ell_bk: jax.Array
    watermark_bk: jax.Array
    gain_bk: jax.Array
    reward_b: jax.Array


class ProbedSteps(NamedTuple):
    """The steps of B responses, in K intervals of which each ends with a probe.

    valid_bk: `[B, K+1]` bool, False at padding; the first entry is ℓ₀'s.
    count_bk: `[B, K]` steps of each interval; more than 1 if the response has more steps than probes; 0 at padding.
    token_bk: `[B, K]` tokens of each interval; 0 at padding.
    step_bt: `[B, T]` interval of each token of the process stream; the number of intervals where the reasoning closes;
      −1 elsewhere.
    """

    valid_bk: Any
    count_bk: Any
    token_bk: Any
    step_bt: Any


class Probes(NamedTuple):
    """What is asked of Q questions, whatever their responses are.

    answers: variants of the reference answers as leaves, with a leading axis Q.
    opening_qx: `[Q, X]` ids that open the reasoning; ℓ₀ is probed after them.
    """

    answers: rewards.Answers
    opening_qx: Any


def build_probes(
    policy: Policy, reward: RewardConfig, problems: Sequence[Problem], *, max_answer_tokens: int
) -> Probes:
    """Return the probes of problems, on the host; only as large as these answers need, see `encoding.pack_probes`.

    Args:
      policy: its tokenizer.
      reward: how many variants are probed, and what ends them.
      problems: Q problems.
      max_answer_tokens: longer variants are left out.
    """
    answers = encoding.pack_probes(
        policy.tokenizer,
        problems,
        max_variants=reward.max_variants,
        max_tokens=max_answer_tokens,
        terminator=reward.terminator,
    )
    return Probes(answers, np.tile(np.array(encoding.opening_ids(policy.tokenizer), int), (len(problems), 1)))


def stack_steps(parsed: Sequence[ParsedCompletion], *, max_steps: int) -> tuple[rewards.Cuts, ProbedSteps]:
    """Return the probe positions and the steps of completions, on the host; K as large as these completions need."""
    n_probes = encoding.bucket_size(max(len(completion.counts) for completion in parsed), max_steps)
    cuts, count_bk = stack_cuts(parsed, max_steps=n_probes)
    end_bk = np.where(cuts.valid_k, cuts.cut_k, 0)
    token_bk = np.where(cuts.valid_k, np.diff(end_bk, axis=1, prepend=0), 0)
    valid_bk = np.pad(cuts.valid_k, ((0, 0), (1, 0)), constant_values=True)
    width = max(len(completion.step_t) for completion in parsed)
    step_bt = [np.pad(p.step_t, (0, width - len(p.step_t)), constant_values=-1) for p in parsed]
    return cuts, ProbedSteps(valid_bk, count_bk, token_bk, np.stack(step_bt))


def make_likelihood_fn(policy: Policy, reward: RewardConfig, *, chunk: int) -> Callable[..., jax.Array]:
    """Return a compiled function: (params, prompts, completions, cuts, probes) -> ell_bk `[B, K+1]`, in nats.

    ℓ₀ belongs to the question: it is computed once for each prompt, after the canonical opening. If `completions.cache`
    holds the rollout's KV cache, only probe tokens are computed. If it is empty, the responses are computed first.

    Args:
      policy: the model's shape.
      reward: how the likelihood of an answer is taken from its tokens and variants.
      chunk: probe tokens of a device whose logits are in memory at once, whatever the number of rows.

    The function's arguments:
      params: parameters to score with.
      prompts: Q prompts.
      completions: B rows, the samples of a prompt next to each other.
      cuts: K probe positions of each row, in tokens of the completion.
      probes: of the prompts; shared by their samples.
    """
    options: dict[str, Any] = {"over_tokens": reward.over_tokens, "over_spellings": reward.over_spellings}

    @jax.jit
    def likelihood(params, prompts: Prompts, completions: Completions, cuts: rewards.Cuts, probes: Probes) -> jax.Array:
        model = decoder.bind(policy.config, params)
        prompts = encode_images(model, prompts)
        (rows, _), (questions, prompt_width) = completions.token_bt.shape, prompts.token_qs.shape
        to_rows = functools.partial(jnp.repeat, repeats=rows // questions, axis=0)
        score = functools.partial(
            rewards.score_on_cache,
            model,
            model.unembed_dv(),
            is_token_v=policy.is_token_v,
            chunk=chunk,
            block=vocab_block(policy),
            share_lead_in=True,
            **options,
        )
        row_probes = jax.tree.map(to_rows, probes)
        cache = completions.cache or (compute_row_cache(model, prompts, completions),)
        slots = decoder.cache_slots(cache)
        trunk = rewards.Trunk(*sampler.row_positions(to_rows(prompts.start_q), slots, prompts.images))
        cuts = cuts._replace(cut_k=cuts.cut_k + prompt_width)
        parts, question_parts = (sharding.batch_parts(n) for n in (rows, questions))
        ell_bk = score(cache, trunk, cuts, row_probes.answers, parts=parts)
        if not completions.cache:
            first_b1 = score(cache, trunk, opening_cuts(row_probes, prompt_width), row_probes.answers, parts=parts)
            return jnp.concatenate([first_b1, ell_bk], axis=1)
        prompt_trunk = rewards.Trunk(*sampler.row_positions(prompts.start_q, prompt_width, prompts.images))
        first_cuts = opening_cuts(probes, prompt_width)
        first_q1 = score(cache[:1], prompt_trunk, first_cuts, probes.answers, parts=question_parts)
        return jnp.concatenate([to_rows(first_q1), ell_bk], axis=1)

    return likelihood


def compute_row_cache(model: decoder.Decoder, prompts: Prompts, completions: Completions) -> Any:
    """Return the keys and values of all rows, prompt and completion together."""
    rows, questions = completions.token_bt.shape[0], prompts.token_qs.shape[0]
    token_bs = jnp.concatenate([jnp.repeat(prompts.token_qs, rows // questions, axis=0), completions.token_bt], axis=1)
    slots = token_bs.shape[1]
    start_b = jnp.repeat(prompts.start_q, rows // questions)
    position_bs, valid_bs = sampler.row_positions(start_b, slots, prompts.images)
    _, cache = model(token_bs, position_bs, valid_bs, features=sampler.row_features(prompts.images, rows, slots))
    return cache


def opening_cuts(probes: Probes, prompt_width: int) -> rewards.Cuts:
    """Return the only cut of ℓ₀, `[N, 1]`: at the end of the prompt, where the leaf writes the opening itself."""
    n, width = probes.opening_qx.shape
    return rewards.Cuts(
        cut_k=jnp.full((n, 1), prompt_width),
        valid_k=jnp.ones((n, 1), bool),
        prefix_kx=probes.opening_qx[:, None],
        prefix_length_k=jnp.full((n, 1), width),
    )


def compute_scores(
    ell_bk: jax.Array, steps: ProbedSteps, is_correct_b: jax.Array, reward: RewardConfig, *, group_size: int
) -> Scores:
    """Compute the watermark, and the gains and process rewards of the credit rule, from answer likelihoods.

    Args:
      ell_bk: `[B, K+1]` likelihoods, in nats.
      steps: which of them belong to steps, and to how many steps and tokens each.
      is_correct_b: `[B]` bool, the answer is correct.
      reward: names the credit rule and its parameters.
      group_size: G, neighboring rows of one question.
    """
    valid_bk = steps.valid_bk
    _, watermark_bk = jax.vmap(rewards.watermark_gains)(ell_bk, valid_bk)
    per_group = jax.tree.map(
        lambda x: x.reshape(-1, group_size, *x.shape[1:]),
        rewards.Group(ell_bk, valid_bk, steps.count_bk, steps.token_bk, is_correct_b),
    )
    credit = jax.vmap(rewards.make_credit(reward.credit, **reward.credit_args.to_dict()))(per_group)
    gain_bk = credit.gain_gk.reshape(-1, credit.gain_gk.shape[-1])
    return Scores(ell_bk, watermark_bk, gain_bk, credit.reward_g.reshape(-1))
