"""Step rewards for any model: how much each reasoning step raises the likelihood of the reference answer.

Lives here: probes of an answer after each step, token log-probs in chunks, gains and other credit rules.
May import: jax, chex and numpy alone; no other room of mig_jax. The model is an argument.
Main names: `score_packed`, `answer_likelihood`, `make_credit`.

Each name is imported when it is first used. Trees, pairs and `numpy_twins` need numpy alone, no jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Module → public names.
_NAMES = {
    "answers": ("TERMINATORS", "pack_answers"),
    "arrays": ("Answers", "Credit", "Cuts", "Group", "Trunk"),
    "credit": ("GATES", "credit_arg_errors", "make_credit"),
    "gains": ("CREDITS", "CreditRule", "watermark_falls", "watermark_gains"),
    "likelihood": ("OVER_SPELLINGS", "OVER_TOKENS", "answer_likelihood"),
    "logprobs": ("Head", "batch_logprobs", "token_logprobs"),
    "pairs": ("Pair", "pairs_likelihood", "probe_pairs"),
    "probes": ("Forward", "score_on_cache", "score_packed"),
    "trees": ("Tree", "lay_tree", "stack_trees", "tree_mask"),
}

if TYPE_CHECKING:
    from mig_jax.rewards import numpy_twins
    from mig_jax.rewards.answers import TERMINATORS, pack_answers
    from mig_jax.rewards.arrays import Answers, Credit, Cuts, Group, Trunk
    from mig_jax.rewards.credit import GATES, credit_arg_errors, make_credit
    from mig_jax.rewards.gains import CREDITS, CreditRule, watermark_falls, watermark_gains
    from mig_jax.rewards.likelihood import OVER_SPELLINGS, OVER_TOKENS, answer_likelihood
    from mig_jax.rewards.logprobs import Head, batch_logprobs, token_logprobs
    from mig_jax.rewards.pairs import Pair, pairs_likelihood, probe_pairs
    from mig_jax.rewards.probes import Forward, score_on_cache, score_packed
    from mig_jax.rewards.trees import Tree, lay_tree, stack_trees, tree_mask

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
    "Head",
    "Pair",
    "Tree",
    "Trunk",
    "answer_likelihood",
    "batch_logprobs",
    "credit_arg_errors",
    "lay_tree",
    "make_credit",
    "numpy_twins",
    "pack_answers",
    "pairs_likelihood",
    "probe_pairs",
    "score_on_cache",
    "score_packed",
    "stack_trees",
    "token_logprobs",
    "tree_mask",
    "watermark_falls",
    "watermark_gains",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "numpy_twins":
        return importlib.import_module("mig_jax.rewards.numpy_twins")
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"mig_jax.rewards.{module}"), name)
    raise AttributeError(f"module 'mig_jax.rewards' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
