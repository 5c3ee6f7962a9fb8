"""Further variants of reference answers (arXiv 2602.01034, Eq. 9), proposed by a model and confirmed by the verifier.

A probe measures how likely the reference answer is in any form the policy may write it. Rules derive 1.5, 3/2 and
\\frac{3}{2} from each other. A model also knows that "half past two" is 2:30. A proposed variant counts only if the
verifier finds it equal to the reference answer.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import jax
from absl import logging

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.evaluation.evaluator import eval_slices
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.policy import encoding
from mig_jax.policy.completions import parse_completions
from mig_jax.policy.generate import make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import add_images, stack_prompts
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.progress import progress
from mig_jax.rollout.problem_set import read_variants, variant_key
from mig_jax.text.answers.verifier import AnswerPair, Verifier

REQUEST = (
    "Write the following answer in up to {n} other ways that mean exactly the same, such as a fraction for a decimal "
    "or a word for a number. One a line, nothing else.\n\nQuestion: {question}\nAnswer: {answer}"
)
# The kind by which a variant is compared with the reference answer, for each kind of problem. Kinds with a tolerance
# are compared exactly, because a nearly equal answer is not a variant. Kinds without an entry have few variants, all of
# which rules derive.
COMPARE_AS = {
    "number": "number", "expression": "expression", "set": "set", "text": "text", "relaxed": "number",
    "integer": "number", "rounded": "number",
}  # fmt: skip
# More than rules derive for any answer.
MAX_RULE_VARIANTS = 100

# The number or dash of a list item.
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|[0-9]{1,2}[.)]\s+)?")


class VariantCounts(NamedTuple):
    """Numbers of variants: proposed by the model, confirmed by the verifier, and new, not derived by rules."""

    proposed: int
    confirmed: int
    new: int


def propose_variants(
    policy: Policy, config: Config, verifier: Verifier, problems: Sequence[Problem], path: Path
) -> VariantCounts:
    """Append a row {"source", "id", "answer", "variants"} for every problem to a file, batch by batch.

    Problems that already have a row are skipped, so an interrupted pass can be resumed.

    Args:
      policy: proposes variants, greedily.
      config: `reward.max_variants` limits the variants of a problem, `data.max_prompt_tokens` the requests.
      verifier: confirms variants.
      problems: those of a kind in `COMPARE_AS` are used.
      path: of the JSONL file.

    Returns:
      The counts of this pass.

    Raises:
      UserError: the file cannot be read or written.
    """
    _remove_incomplete_row(path)
    done = read_variants(str(path)) if path.exists() else {}
    remaining = [problem for problem in problems if problem.kind in COMPARE_AS and variant_key(problem) not in done]
    params = make_rollout_params_fn(policy, gather=config.rollout.gather_params)(policy.params)
    sampler = make_sampler(policy, config.rollout, group_size=1, temperature=0.0)

    def sample(prompts: Prompts) -> Completions:
        return sampler(params, sharding.to_mesh(prompts, policy.mesh), jax.random.key(0))

    counts = VariantCounts(0, 0, 0)
    with _open_to_append(path) as file:
        for part in progress(eval_slices(policy, config, len(remaining), 1), desc="variants", unit="batch"):
            batch = remaining[part.first : part.first + part.size]
            texts = _answer_requests(policy, config, sample, batch, part.size)
            proposed = [parse_variants(text, limit=config.reward.max_variants) for text in texts]
            confirmed = confirm_variants(verifier, batch, proposed)
            new = [_exclude_known(problem, found) for problem, found in zip(batch, confirmed, strict=True)]
            for problem, found in zip(batch, new, strict=True):
                row = {"source": problem.source, "id": problem.id, "answer": problem.answer, "variants": found}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            added = (sum(map(len, found)) for found in (proposed, confirmed, new))
            counts = VariantCounts(*(n + m for n, m in zip(counts, added, strict=True)))
    return counts


def parse_variants(completion: str, *, limit: int) -> list[str]:
    """Return the first `limit` distinct items of a list, one per line, without their bullets."""
    lines = (_BULLET.sub("", line).strip() for line in completion.split("\n"))
    return list(dict.fromkeys(filter(None, lines)))[:limit]


def confirm_variants(
    verifier: Verifier, problems: Sequence[Problem], proposed: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return the proposed variants that equal the reference answer of their problem."""
    pairs = [(n, variant) for n, found in enumerate(proposed) for variant in found]
    items = [AnswerPair(variant, problems[n].answer, COMPARE_AS[problems[n].kind]) for n, variant in pairs]
    grades = dict(zip(pairs, verifier.grade(items), strict=True))
    return [[variant for variant in found if grades[n, variant].is_correct] for n, found in enumerate(proposed)]


def _exclude_known(problem: Problem, variants: Sequence[str]) -> list[str]:
    """Return the variants that rules do not derive."""
    known = encoding.reference_variants(problem, limit=MAX_RULE_VARIANTS)
    return [variant for variant in variants if variant not in known]


def _answer_requests(
    policy: Policy,
    config: Config,
    sample: Callable[[Prompts], Completions],
    batch: Sequence[Problem],
    size: int,
) -> list[str]:
    """Return the model's answer to the request for each problem; "" if the request is too long.

    Args:
      sample: returns greedy completions of prompts.
      batch: at most `size` problems.
      size: rows of the padded prompts.
    """
    width = config.data.max_prompt_tokens
    requests = [_request_ids(policy, problem, config.reward.max_variants) for problem in batch]
    fitting = [n for n, ids in enumerate(requests) if len(ids) <= width]
    if len(fitting) < len(batch):
        logging.warning("%d requests are longer than data.max_prompt_tokens=%d", len(batch) - len(fitting), width)
    texts = [""] * len(batch)
    if not fitting:
        return texts
    rows = [add_images(policy, requests[n], ()) for n in fitting]
    completions = sample(stack_prompts(policy, rows + rows[:1] * (size - len(rows)), width))
    w = config.reward
    parsed = parse_completions(policy, completions, max_steps=w.max_steps, process_mask=w.process_mask)
    for n, completion in zip(fitting, parsed, strict=False):
        texts[n] = completion.text
    return texts


def _request_ids(policy: Policy, problem: Problem, max_variants: int) -> list[int]:
    text = REQUEST.format(n=max_variants, question=problem.question, answer=problem.answer)
    return policy.tokenizer.chat_prompt([{"role": "user", "content": text}])


def _remove_incomplete_row(path: Path) -> None:
    """Remove a last row without line end, left by a killed pass."""
    if not path.exists():
        return
    try:
        complete, _, incomplete = path.read_text(encoding="utf-8").rpartition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it to start over") from error
    if incomplete:
        with replace_file(path) as file:
            file.write(complete + "\n" * bool(complete))


def _open_to_append(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
