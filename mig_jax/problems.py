"""The problems of a run: those of a source that fit the lengths of the config."""

from collections.abc import Sequence

from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from mig_jax import encoding
from mig_jax.data import sources
from mig_jax.data.problem import Problem
from mig_jax.policy import Policy
from mig_jax.prompts import measure_prompt


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
        reason = why_left_out(policy, config, problem, demonstrated=demonstrated)
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


def why_left_out(policy: Policy, config: ConfigDict, problem: Problem, *, demonstrated: bool) -> str:
    """Why a problem cannot be used, or ""; `demonstrated`: its written solution is needed.

    Raises:
      ValueError: an image cannot be read, or there are images that the model cannot see.
    """
    d = config.data
    try:
        size = measure_prompt(policy, config, problem)
    except ValueError as error:
        raise ValueError(f"problem {problem.id}: {error}") from error
    if size.tokens > d.max_prompt_tokens:
        return f"with a prompt of more than {d.max_prompt_tokens} tokens (data.max_prompt_tokens)"
    if size.patches > config.model.vision.max_patches:
        return f"with more than {config.model.vision.max_patches} patches of images (model.vision.max_patches)"
    return encoding.why_left_out(
        policy.tokenizer,
        problem,
        max_answer_tokens=d.max_answer_tokens,
        max_new_tokens=config.rollout.max_new_tokens if demonstrated else None,
    )
