"""Step credit for anybody's model: arrays in, arrays out, jax and chex alone."""

from mig_jax.rewards.gains import CREDITS, Credit, watermark_gains
from mig_jax.rewards.likelihood import answer_likelihood, token_logprobs
from mig_jax.rewards.probes import Answers, Cuts, Trunk, pack_answers, score_on_cache, score_packed

__all__ = [
    "CREDITS",
    "Answers",
    "Credit",
    "Cuts",
    "Trunk",
    "answer_likelihood",
    "pack_answers",
    "score_on_cache",
    "score_packed",
    "token_logprobs",
    "watermark_gains",
]
