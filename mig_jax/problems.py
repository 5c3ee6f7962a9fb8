"""The problems of a run: those of a source that fit the lengths of the config."""

from collections.abc import Sequence

from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from mig_jax import encoding
from mig_jax.data import sources
from mig_jax.data.sources import Problem
from mig_jax.policy import Policy


def open_problems(policy: Policy, config: ConfigDict, split: str, *, demonstrated: bool = False) -> Sequence[Problem]:
    """The problems of the "train" or "test" split that fit the config's lengths; what is left out is counted aloud.

    Raises:
      ValueError: nothing is left.
    """
    d = config.data
    if split == "train":
        name, size, seed = d.train, d.train_size, config.seed
    else:
        name, size, seed = d.eval or d.train, d.eval_size, d.eval_seed
    source = sources.open_source(name, split=split, seed=seed, size=size)
    kept, reasons = [], {}
    for problem in tqdm(source, desc=f"reading {name} ({split})", unit="problem", leave=False):
        reason = encoding.why_left_out(
            policy.tokenizer,
            problem,
            system_prompt=d.system_prompt,
            max_prompt_tokens=d.max_prompt_tokens,
            max_answer_tokens=d.max_answer_tokens,
            max_new_tokens=config.rollout.max_new_tokens if demonstrated else None,
        )
        reasons[reason] = reasons.get(reason, 0) + 1
        if not reason:
            kept.append(problem)
    left_out = {reason: count for reason, count in reasons.items() if reason}
    if left_out:
        listed = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        n_left_out = len(source) - len(kept)
        logging.warning("%s (%s): %d of %d problems left out: %s", name, split, n_left_out, len(source), listed)
    if not kept:
        raise ValueError(f"no problem of {name} ({split}) can be used: {left_out}")
    return kept
