"""The problems of a run: those of its data sources that fit the limits of the config."""

import dataclasses
import hashlib
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from absl import logging

from mig_jax.config import Config
from mig_jax.data import sources
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import RowError, format_errors
from mig_jax.errors import UserError
from mig_jax.policy.encoding import QuestionChangedError, rejection_reason
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import measure_prompt
from mig_jax.records.progress import progress

# Variants of an answer, by the `variant_key` of its problem.
Variants = Mapping[tuple[str, str, str], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class FilteredDataset(Sequence[Problem]):
    """The accepted problems of a source, read on access, with the known variants of their answers.

    source: all problems.
    indices: the accepted ones, in order.
    variants: further variants of answers, see `read_variants`.
    rejected: number of rejected problems, by reason.
    digest: of everything that is learned or graded from the accepted problems; see `update_digest`.
    """

    source: Sequence[Problem]
    indices: Sequence[int]
    variants: Variants
    rejected: Counter[str]
    digest: str

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self[n] for n in range(len(self))[index]]
        problem = self.source[self.indices[index]]
        return problem._replace(variants=self.variants.get(variant_key(problem), ()))


def open_train_problems(
    policy: Policy, config: Config, *, need_solution: bool
) -> tuple[list[FilteredDataset], list[float]]:
    """Open the sources of `data.train`.

    Args:
      policy: its tokenizer and image reader measure the problems.
      config: names the sources and sets the limits.
      need_solution: accept only problems with a solution that fits (SFT).

    Returns:
      The problems of each source, and the mixture weight of each.

    Raises:
      UserError: a source is wrong, or all its problems are rejected.
    """
    variants = read_variants(config.data.variants)
    limit = config.rollout.max_new_tokens if need_solution else None
    parts = sources.parse_mixture(config.data.train)

    def reason(problem: Problem) -> str | None:
        return prompt_rejection_reason(policy, config, problem) or rejection_reason(
            policy.tokenizer, problem, max_answer_tokens=config.data.max_answer_tokens, max_new_tokens=limit
        )

    opened = [open_source(config, part.name, split="train") for part in parts]
    filtered = [
        filter_problems(part.name, source, reason, variants=variants)
        for part, source in zip(parts, opened, strict=True)
    ]
    return filtered, [part.weight for part in parts]


def eval_source(config: Config) -> str:
    """Return the name of the source that is evaluated unless others are named."""
    return config.data.eval or config.data.train


def open_eval_problems(policy: Policy, config: Config, name: str = "") -> FilteredDataset:
    """Open the held-out problems of a source; "" is the config's own.

    Raises:
      UserError: the source is wrong or a mixture, or all its problems are rejected.
    """
    name = name or eval_source(config)
    if len(sources.parse_mixture(name)) > 1:
        raise UserError(f"data.eval={name!r} is a mixture; evaluate one source, or name several in eval.benchmarks")
    source = open_source(config, name, split="test")
    size = min(config.eval.problems or len(source), len(source))
    drawn = np.random.default_rng(config.data.eval_seed).permutation(len(source))[:size]

    def reason(problem: Problem) -> str | None:
        return prompt_rejection_reason(policy, config, problem)

    return filter_problems(name, source, reason, variants={}, indices=sorted(drawn.tolist()))


def open_source(config: Config, name: str, *, split: str) -> Sequence[Problem]:
    """Open all problems of a source with the config's seeds, sizes and columns; see `sources.open_source`."""
    d = config.data
    return sources.open_source(
        name,
        split=split,
        seed=config.seed if split == "train" else d.eval_seed,
        size=d.train_size if split == "train" else d.eval_size,
        data_dir=pathlib.Path(d.dir).expanduser(),
        columns=d.columns.to_dict(),
        bad_rows=d.bad_rows,
        choice_answers=d.choice_answers,
    )


def filter_problems(
    name: str,
    source: Sequence[Problem],
    reason: Callable[[Problem], str | None],
    *,
    variants: Variants,
    indices: Sequence[int] | None = None,
) -> FilteredDataset:
    """Keep the problems without a reason to reject them; count and report the others.

    Args:
      name: of the source, for messages.
      source: all problems.
      reason: returns why a problem is rejected, or None.
      variants: see `FilteredDataset`.
      indices: problems to choose from; None for all.

    Raises:
      UserError: no problem is left.
    """
    indices = range(len(source)) if indices is None else indices
    bar = progress(indices, desc=f"reading {name}", unit="problem", leave=False)
    reasons, digest = [], hashlib.sha256()
    for index in bar:
        problem = source[index]
        reasons.append(reason(problem))
        if not reasons[-1]:
            update_digest(digest, problem._replace(variants=variants.get(variant_key(problem), ())))
    rejected = Counter(filter(None, reasons))
    counts = "; ".join(f"{count} {why}" for why, count in rejected.items())
    kept = [index for index, why in zip(indices, reasons, strict=True) if not why]
    if not kept:
        raise UserError(f"no problem of {name} can be used: {counts or 'it has none'}")
    if rejected:
        logging.warning("%s: %d of %d problems rejected: %s", name, rejected.total(), len(reasons), counts)
    return FilteredDataset(source, kept, variants, rejected, digest.hexdigest())


def update_digest(digest: Any, problem: Problem) -> None:
    """Add a problem to a digest of `hashlib`: what is asked, learned and graded, but not how it is classified."""
    p, images = problem, [hashlib.sha256(image).hexdigest() for image in problem.images]
    fields = (p.id, p.question, p.answer, p.kind, p.choices, p.solution, p.variants, images)
    # Only where there are any, so that digests of other sources stay as they were.
    rest = [part for part in (p.history, p.response, p.row) if part]
    digest.update(json.dumps([*fields, *rest], default=_digestible).encode())


def _digestible(value: Any) -> str:
    """Return a text for a value of a row that JSON lacks, such as an image, a date or a number of numpy."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def prompt_rejection_reason(policy: Policy, config: Config, problem: Problem) -> str | None:
    """Return why a problem cannot be prompted, or None.

    Raises:
      UserError: an image cannot be read, or the model has no vision tower.
    """
    try:
        size = measure_prompt(policy, problem)
    except QuestionChangedError:
        return "with a question that the chat template changes"
    except UserError as error:
        raise UserError(f"problem {problem.id}: {error}") from error
    if size.tokens > config.data.max_prompt_tokens:
        return f"with a prompt of more than {config.data.max_prompt_tokens} tokens (data.max_prompt_tokens)"
    if size.patches > config.model.vision.max_patches:
        return f"with more than {config.model.vision.max_patches} image patches (model.vision.max_patches)"
    return None


def variant_key(problem: Problem) -> tuple[str, str, str]:
    """Return what variants are found by. Ids are unique only in a source, and a file may have been rewritten."""
    return problem.source, problem.id, problem.answer


def read_variants(path: str) -> Variants:
    """Read a file of `mig-jax variants`; an empty path gives none.

    Raises:
      UserError: rows are not those of such a file; lists them.
    """
    found, errors = {}, []
    for row in read_rows(pathlib.Path(path).expanduser()) if path else ():
        try:
            found[row.optional_text("source"), row.text("id"), row.text("answer")] = row.texts("variants")
        except RowError as error:
            errors.append(str(error))
    if errors:
        raise UserError(format_errors(f"{path} is not a file of variants", errors))
    return found
