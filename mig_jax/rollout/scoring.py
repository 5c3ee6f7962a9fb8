"""Score responses step by step: answer likelihoods, their watermark, and the credit that a rule derives from them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mig_jax import rewards
from mig_jax.config import RewardConfig
from mig_jax.models import decoder, sampler
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.policy.generate import encode_images
from mig_jax.policy.load import Policy


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


def make_score_fn(policy: Policy, reward: RewardConfig, *, chunk: int) -> Callable[..., Scores]:
    """Return a compiled function: (params, prompts, completions, cuts, answers_q) -> `Scores`.

    If `completions.cache` holds the rollout's KV cache, only probe tokens are computed. If it is empty, one packed
    pass computes the responses and their probes.

    Args:
      policy: the model's shape.
      reward: names the credit rule.
      chunk: probe tokens of each row whose logits are in memory at once.

    The function's arguments:
      params: parameters to score with.
      prompts: Q prompts.
      completions: B rows, the samples of a prompt next to each other.
      cuts: probe positions, in tokens of the completion.
      answers_q: variants of each problem's reference answer, shared by its samples.
    """

    @jax.jit
    def score(params, prompts: Prompts, completions: Completions, cuts, answers_q) -> Scores:
        model = decoder.bind(policy.config, params)
        prompts = encode_images(model, prompts)
        rows, (questions, prompt_width) = completions.token_bt.shape[0], prompts.token_qs.shape
        repeat = rows // questions
        cuts = cuts._replace(cut_k=cuts.cut_k + prompt_width)
        answers = jax.tree.map(lambda x: jnp.repeat(x, repeat, axis=0), answers_q)
        cache, token_bs = completions.cache, None
        if not cache:
            token_bs = jnp.concatenate([jnp.repeat(prompts.token_qs, repeat, axis=0), completions.token_bt], axis=1)
        slots = decoder.cache_slots(cache) if token_bs is None else token_bs.shape[1]
        position_bs, valid_bs = sampler.row_positions(jnp.repeat(prompts.start_q, repeat), slots, prompts.images)
        trunk = rewards.Trunk(position_bs, valid_bs)
        if token_bs is None:
            ell_bk = rewards.score_on_cache(model, model.unembed_dv(), cache, trunk, cuts, answers, chunk=chunk)
        else:
            features = sampler.row_features(prompts.images, rows, slots)

            def forward(token_rt, position_rt, visible_rx, cache):
                # Only the trunk contains images; probes run on its cache.
                return model(token_rt, position_rt, visible_rx, cache, features=None if cache else features)

            ell_bk, _ = rewards.score_packed(forward, model.unembed_dv(), token_bs, trunk, cuts, answers, chunk=chunk)
        return compute_scores(ell_bk, cuts.valid_k, reward)

    return score


def compute_scores(ell_bk: jax.Array, valid_bk: jax.Array, reward: RewardConfig) -> Scores:
    """Compute the watermark, and the gains and process rewards of the credit rule, from answer likelihoods."""
    _, watermark_bk = jax.vmap(rewards.watermark_gains)(ell_bk, valid_bk)
    earned = jax.vmap(rewards.CREDITS[reward.credit])(ell_bk, valid_bk)
    return Scores(ell_bk, watermark_bk, earned.gain_k, earned.reward)
