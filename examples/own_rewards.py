"""Outcome rewards of your own: shorter responses, code that passes its tests, and the opinion of a judge model.

    c.reward.outcomes = {"accuracy": 1.0, "examples/own_rewards.py:shortness": 0.1}

docs/own_parts.md explains them. Copy this file and change it.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from mig_jax.rollout.outcomes import Sample, batch_reward


def shortness(sample: Sample) -> float | None:
    """Return 1 for no tokens, down to 0 at the length limit; wrong responses have no part in it."""
    return 1 - sample.n_tokens / sample.max_tokens if sample.is_correct else None


def passes_tests(sample: Sample) -> float:
    """Return 1 if the last code block of the response passes the tests in the row's column `tests`.

    Not a sandbox: run models that you do not trust in a container.
    """
    blocks = re.findall(r"```(?:python)?\n(.*?)```", sample.response, re.DOTALL)
    if not blocks:
        return 0.0
    program = [sys.executable, "-I", "-c", f"{blocks[-1]}\n{sample.row['tests']}"]
    try:
        return float(subprocess.run(program, capture_output=True, timeout=5).returncode == 0)
    except subprocess.TimeoutExpired:
        return 0.0


@batch_reward(deadline_s=120, size=64)
def judged(samples: list[Sample]) -> list[float | None]:
    """Return the grade of each response, 0 to 1, by a judge with an API like OpenAI's at JUDGE_URL."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(_ask_judge, samples))


def _ask_judge(sample: Sample) -> float | None:
    text = f"Grade the reasoning from 0 to 10. Answer with the number alone.\n\n{sample.question}\n\n{sample.response}"
    body = {"model": "judge", "messages": [{"role": "user", "content": text}], "temperature": 0}
    url = os.environ.get("JUDGE_URL", "http://localhost:8000/v1/chat/completions")
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        content = json.load(reply)["choices"][0]["message"]["content"]
    found = re.search(r"\d+", content)
    return min(int(found[0]), 10) / 10 if found else None  # None: the judge said no number
