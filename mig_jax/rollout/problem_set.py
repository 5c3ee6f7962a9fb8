"""The problems of a run: those of its sources that fit the lengths of the config."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging
from tqdm import tqdm

from mig_jax.config import Config
from mig_jax.data import sources
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import RowError, format_errors
from mig_jax.policy import encoding
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import measure_prompt

# Spellings of an answer by the `variant_key` its problem.
Variants = Mapping[tuple[str, str, str], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class FilteredDataset(Sequence):
    """Some problems of a source, each read when it is asked for, with the spellings of its answer that are known.

    source: all problems.
    indices: those that are chosen, in order.
    variants: further spellings of answers, see `read_variants`.
    left_out: how many problems were left out for their length, by the reason.
    """

    source: Sequence[Problem]
    indices: Sequence[int]
    variants: Variants
    rejected: Counter[str]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | slice) -> "Problem | list[Problem]":
        if isinstance(index, slice):
            return [self[n] for n in range(len(self))[index]]
        problem = self.source[self.indices[index]]
        return problem._replace(variants=self.variants.get(variant_key(problem), ()))


def open_training(policy: Policy, config: Config, *, solved: bool) -> tuple[list[FilteredDataset], list[float]]:
    """What `data.train` mixes: the problems of each source, and its weight.

    Args:
      solved: only problems whose written solution is there and fits.

    Raises:
      ValueError: a source is wrong, or nothing of it is left.
    """
    variants = read_variants(config.data.variants)
    limit = config.rollout.max_new_tokens if solved else None
    parts = sources.parse_mixture(config.data.train)

    def reason(problem: Problem) -> str:
        return prompt_rejection_reason(policy, config, problem) or encoding.rejection_reason(
            policy.tokenizer, problem, max_answer_tokens=config.data.max_answer_tokens, max_new_tokens=limit
        )

    opened = [open_configured_source(config, part.name, split="train") for part in parts]
    chosen = [
        filter_problems(part.name, source, reason, variants=variants)
        for part, source in zip(parts, opened, strict=True)
    ]
    return chosen, [part.weight for part in parts]


def held_out_source(config: Config) -> str:
    """The name of the source that is evaluated unless others are named."""
    return config.data.eval or config.data.train


def open_held_out(policy: Policy, config: Config, name: str = "") -> FilteredDataset:
    """The problems of a source that are evaluated; "" is that of the config.

    Raises:
      ValueError: the source is wrong, a mixture, or nothing of it is left.
    """
    name = name or held_out_source(config)
    if len(sources.parse_mixture(name)) > 1:
        raise ValueError(f"data.eval={name!r}: figures are those of one source; name several as eval.benchmarks")
    source = open_configured_source(config, name, split="test")
    size = min(config.eval.problems or len(source), len(source))
    drawn = np.random.default_rng(config.data.eval_seed).permutation(len(source))[:size]

    def reason(problem: Problem) -> str:
        return prompt_rejection_reason(policy, config, problem)

    return filter_problems(name, source, reason, variants={}, indices=sorted(drawn.tolist()))


def open_configured_source(config: Config, name: str, *, split: str) -> Sequence[Problem]:
    """A source with all its problems, as the config says; see `sources.open_source`."""
    d = config.data
    return sources.open_source(
        name,
        split=split,
        seed=config.seed if split == "train" else d.eval_seed,
        size=d.train_size if split == "train" else d.eval_size,
        data_dir=pathlib.Path(d.dir).expanduser(),
        columns=d.columns.to_dict(),
    )


def filter_problems(
    name: str,
    source: Sequence[Problem],
    reason: Callable[[Problem], str],
    *,
    variants: Variants,
    indices: Sequence[int] | None = None,
) -> FilteredDataset:
    """The problems for which there is no reason to leave them out; the others are counted aloud.

    Args:
      indices: those to choose from; None: all.

    Raises:
      ValueError: nothing is left.
    """
    indices = range(len(source)) if indices is None else indices
    counted = tqdm(indices, desc=f"reading {name}", unit="problem", leave=False)
    reasons = [reason(source[index]) for index in counted]
    rejected = Counter(filter(None, reasons))
    if rejected:
        listed = "; ".join(f"{count} {why}" for why, count in rejected.items())
        logging.warning("%s: %d of %d problems left out: %s", name, rejected.total(), len(reasons), listed)
    kept = [index for index, why in zip(indices, reasons, strict=True) if not why]
    if not kept:
        raise ValueError(f"no problem of {name} can be used: {dict(rejected)}")
    return FilteredDataset(source, kept, variants, rejected)


def prompt_rejection_reason(policy: Policy, config: Config, problem: Problem) -> str:
    """Why a problem cannot be asked, or "".

    Raises:
      ValueError: an image cannot be read, or there are images that the model cannot see.
    """
    try:
        size = measure_prompt(policy, config, problem)
    except ValueError as error:
        raise ValueError(f"problem {problem.id}: {error}") from error
    if size.tokens > config.data.max_prompt_tokens:
        return f"with a prompt of more than {config.data.max_prompt_tokens} tokens (data.max_prompt_tokens)"
    if size.patches > config.model.vision.max_patches:
        return f"with more than {config.model.vision.max_patches} patches of images (model.vision.max_patches)"
    return ""


def variant_key(problem: Problem) -> tuple[str, str, str]:
    """What spellings are found by: ids are unique in a source only, and a file may have been written anew."""
    return problem.source, problem.id, problem.answer


def read_variants(path: str) -> Variants:
    """Spellings of answers by the `variant_key` their problem, from a file of `mig-jax variants`; none without a path.

    Raises:
      ValueError: a row is not one of such a file.
    """
    found, faults = {}, []
    for row in read_rows(pathlib.Path(path)) if path else ():
        try:
            found[row.optional_text("source"), row.text("id"), row.text("answer")] = row.texts("variants")
        except RowError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(format_errors(f"{path} is not a file of variants", faults))
    return found
