"""Step rewards for any model: how much each reasoning step raises the likelihood of the reference answer.

Lives here: probes of an answer after each step, token log-probs in chunks, gains and other credit rules.
May import: jax, chex and numpy alone; no other room of mig_jax. The model is an argument.
Main names: `score_packed`, `answer_likelihood`, `watermark_gains`.
"""

from mig_jax.rewards.gains import CREDITS, Credit, watermark_gains
from mig_jax.rewards.likelihood import answer_likelihood, token_logprobs
from mig_jax.rewards.probes import Answers, Cuts, Forward, Trunk, pack_answers, score_on_cache, score_packed

__all__ = [
    "CREDITS",
    "Answers",
    "Credit",
    "Cuts",
    "Forward",
    "Trunk",
    "answer_likelihood",
    "pack_answers",
    "score_on_cache",
    "score_packed",
    "token_logprobs",
    "watermark_gains",
]
