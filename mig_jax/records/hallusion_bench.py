"""The metrics that HallusionBench defines over groups of its questions: aAcc, fAcc and qAcc.

References:
  arXiv 2310.14566, section 4.2; tianyi-lab/HallusionBench, utils.py.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from mig_jax.data.rows import format_errors
from mig_jax.errors import UserError
from mig_jax.records.eval_statistics import Estimate, estimate_mean

# The number of questions in HallusionBench.json of tianyi-lab/HallusionBench, as in arXiv 2310.14566.
QUESTIONS = 1129


def compute_group_metrics(
    ids: Sequence[str], correct_by_criterion: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Estimate]]:
    """Compute the accuracy per question (aAcc), per figure (fAcc) and per question pair (qAcc).

    aAcc: share of all questions that are correct.
    fAcc: share of figures all of whose questions are correct. Questions asked without a figure (category VS, figure 0)
      belong to no figure.
    qAcc: share of questions that are correct with every figure, and without one.

    The authors also accept an uncertain answer to a question asked without a figure; here it must be yes or no.
    fAcc and qAcc are computed only from the whole benchmark: with a part of it, figures would lack questions and
    questions would lack figures, and both metrics would be too high.

    Args:
      ids: `[Q]` category/subcategory/set_id/figure_id/question_id.
      correct_by_criterion: for each criterion, `[Q]` 1 if correct, 0 if wrong, nan if undecided.

    Returns:
      metric → criterion → estimate.

    Raises:
      UserError: an id has another form; lists them.
    """
    keys = [id_.split("/") for id_ in ids]
    errors = [id_ for id_, key in zip(ids, keys, strict=True) if len(key) != 5]
    if errors:
        raise UserError(format_errors("ids are not category/subcategory/set_id/figure_id/question_id", errors))
    groups: dict[str, Sequence[Hashable | None]] = {"aAcc": range(len(keys))}
    if len(keys) >= QUESTIONS:
        groups["fAcc"] = [None if (key[0], key[3]) == ("VS", "0") else tuple(key[:4]) for key in keys]
        groups["qAcc"] = [(*key[:3], key[4]) for key in keys]
    return {
        metric: {
            criterion: estimate_mean(all_correct(correct_q, key_q))
            for criterion, correct_q in correct_by_criterion.items()
        }
        for metric, key_q in groups.items()
    }


def all_correct(correct_q: np.ndarray, key_q: Sequence[Hashable | None]) -> np.ndarray:
    """Return 1 for each key whose questions are all correct, 0 if one is wrong, else nan; a key of None is skipped."""
    correct_by_key = defaultdict(list)
    for key, correct in zip(key_q, correct_q, strict=True):
        if key is not None:
            correct_by_key[key].append(correct)
    return np.array([0.0 if 0.0 in correct else np.min(correct) for correct in correct_by_key.values()])
