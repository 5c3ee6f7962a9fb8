"""Further spellings of reference answers (arXiv 2602.01034, Eq. 9): a model proposes them, the verifier disposes.

A probe asks how likely the right answer is, in whatever way the policy would write it. Rules know 1.5, 3/2 and
\\frac{3}{2}; a model knows that "half past two" is 2:30. What it proposes counts only when the verifier finds it equal.
"""

import functools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import logging
from tqdm import tqdm

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.evaluation.evaluator import batches
from mig_jax.policy import encoding
from mig_jax.policy.generate import make_rollout_params, make_sampler
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import add_images, stack_prompts
from mig_jax.rollout.problem_set import read_variants, variant_key
from mig_jax.rollout.rollout import parse_completions
from mig_jax.text.answers.verifier import AnswerPair, Verifier

REQUEST = (
    "Write the following answer in up to {n} other ways that mean exactly the same, such as a fraction for a decimal "
    "or a word for a number. One a line, nothing else.\n\nQuestion: {question}\nAnswer: {answer}"
)
# As what a proposed spelling must be equal. Some kinds forgive what is nearly right, which is no other spelling of it;
# what is not here can be spelled in few ways, which rules know.
CHECKED_AS = {
    "number": "number", "expression": "expression", "set": "set", "text": "text", "relaxed": "number",
    "integer": "number", "rounded": "number",
}  # fmt: skip

# A list's numbers and dashes, which stand before what is meant.
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|[0-9]{1,2}[.)]\s+)?")


def propose_variants(
    policy: Policy, config: Config, verifier: Verifier, problems: Sequence[Problem], path: Path
) -> tuple[int, int, int]:
    """Writes a row {"source", "id", "answer", "variants"} for every problem, a batch as soon as it is there.

    Rows that the file has already are kept, so that an interrupted pass goes on.

    Returns:
      How many spellings were proposed, confirmed, and known to no rule, by this pass.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = read_variants(str(_without_torn_row(path))) if path.exists() else {}
    open_ones = [problem for problem in problems if problem.kind in CHECKED_AS and variant_key(problem) not in done]
    weights = make_rollout_params(policy, gather=config.rollout.gather_params)(policy.params)
    sample = functools.partial(make_sampler(policy, config.rollout, group_size=1, temperature=0.0), weights)
    counts = (0, 0, 0)
    with open(path, "a", encoding="utf-8") as file:
        for first, size in tqdm(batches(policy, config, len(open_ones), 1), desc="variants", unit="batch"):
            batch = open_ones[first : first + size]
            proposed = [
                spellings_in(text, limit=config.reward.max_variants)
                for text in _ask(policy, config, sample, batch, size)
            ]
            confirmed = confirm(verifier, batch, proposed)
            new = [
                [spelling for spelling in found if spelling not in encoding.answer_spellings(problem, limit=100)]
                for problem, found in zip(batch, confirmed, strict=True)
            ]
            for problem, found in zip(batch, new, strict=True):
                row = {"source": problem.source, "id": problem.id, "answer": problem.answer, "variants": found}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            counts = tuple(n + sum(map(len, part)) for n, part in zip(counts, (proposed, confirmed, new), strict=True))
    return counts


def spellings_in(completion: str, *, limit: int) -> list[str]:
    """The lines of a model's list, each once, without its bullets; the first `limit` of them."""
    lines = (_BULLET.sub("", line).strip() for line in completion.split("\n"))
    return list(dict.fromkeys(filter(None, lines)))[:limit]


def confirm(verifier: Verifier, problems: Sequence[Problem], proposed: Sequence[Sequence[str]]) -> list[list[str]]:
    """Those spellings of each problem's answer that the verifier finds equal to it."""
    pairs = [(n, spelling) for n, found in enumerate(proposed) for spelling in found]
    items = [AnswerPair(spelling, problems[n].answer, CHECKED_AS[problems[n].kind]) for n, spelling in pairs]
    verdicts = dict(zip(pairs, verifier.grade(items), strict=True))
    return [[spelling for spelling in found if verdicts[n, spelling]] for n, found in enumerate(proposed)]


def _without_torn_row(path: Path) -> Path:
    """The file, without what a killed pass has left of its last row."""
    whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n")
    if torn:
        path.with_suffix(".tmp").write_text(whole + "\n" * bool(whole), encoding="utf-8")
        os.replace(path.with_suffix(".tmp"), path)
    return path


def _ask(policy: Policy, config: Config, sample, batch: Sequence[Problem], size: int) -> list[str]:
    """What the model says to the request for each problem; "" where the request is too long to be asked."""
    tokenizer, width = policy.tokenizer, config.data.max_prompt_tokens
    requests = [
        tokenizer.chat_prompt([{"role": "user", "content": REQUEST.format(
            n=config.reward.max_variants, question=problem.question, answer=problem.answer)}])
        for problem in batch
    ]  # fmt: skip
    fitting = [n for n, ids in enumerate(requests) if len(ids) <= width]
    if len(fitting) < len(batch):
        logging.warning("%d requests are longer than data.max_prompt_tokens=%d", len(batch) - len(fitting), width)
    texts = [""] * len(batch)
    if not fitting:
        return texts
    rows = [add_images(policy, requests[n], ()) for n in fitting]
    prompts = stack_prompts(policy, rows + rows[:1] * (size - len(rows)), width)
    completions = sample(sharding.to_mesh(prompts, policy.mesh), jax.random.key(0))
    parsed = parse_completions(policy, completions, max_steps=config.reward.max_steps)
    for n, completion in zip(fitting, parsed, strict=False):
        texts[n] = completion.text
    return texts
