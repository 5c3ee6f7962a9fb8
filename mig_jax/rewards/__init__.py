"""Step rewards for any model: how much each reasoning step raises the likelihood of the reference answer.

Lives here: probes of an answer after each step, token log-probs in chunks, gains and other credit rules.
May import: jax, chex and numpy alone; no other room of mig_jax. The model is an argument.
Main names: `score_packed`, `answer_likelihood`, `make_credit`.
"""

from mig_jax.rewards.answers import TERMINATORS, Answers, pack_answers
from mig_jax.rewards.credit import GATES, credit_arg_errors, make_credit
from mig_jax.rewards.gains import CREDITS, Credit, CreditRule, Group, watermark_falls, watermark_gains
from mig_jax.rewards.likelihood import OVER_SPELLINGS, OVER_TOKENS, answer_likelihood, token_logprobs
from mig_jax.rewards.probes import Cuts, Forward, Trunk, score_on_cache, score_packed

__all__ = [
    "CREDITS",
    "GATES",
    "OVER_SPELLINGS",
    "OVER_TOKENS",
    "TERMINATORS",
    "Answers",
    "Credit",
    "CreditRule",
    "Cuts",
    "Forward",
    "Group",
    "Trunk",
    "answer_likelihood",
    "credit_arg_errors",
    "make_credit",
    "pack_answers",
    "score_on_cache",
    "score_packed",
    "token_logprobs",
    "watermark_falls",
    "watermark_gains",
]
