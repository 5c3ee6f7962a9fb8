"""Score one transcript in each of ten layouts, and write the table and the picture of docs/response_formats.md.

    python -m tools.docs_formats [--model=DIR]

Each row of docs/response_formats.jsonl names the response format to read it in (`response_format`), and where steps end
(`split`) if that differs from the format. The columns of the table: the steps that are found, what is wrong with the
response, its answer, and in nats under the model ℓ₀ before the first step, ℓ after the last one, and the gain of all.
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path

import mig_jax
from mig_jax.policy.load import Policy
from mig_jax.records.gains_plot import draw_gains_plot
from mig_jax.records.transcripts import Transcript

ROOT = Path(__file__).resolve().parent.parent
TRANSCRIPTS = ROOT / "docs" / "response_formats.jsonl"
PAGE, PICTURE = TRANSCRIPTS.with_suffix(".md"), TRANSCRIPTS.with_suffix(".png")
HEADINGS = ("layout", "format", "`--steps`", "steps", "format error", "answered", "ℓ₀", "ℓ at the end", "gain")


def main() -> None:
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(description="Write the table and the picture of docs/response_formats.md.")
    parser.add_argument("--model", default=str(ROOT / "mig_jax" / "assets" / "quickstart"), help="folder of a model")
    policy = mig_jax.load_policy(parser.parse_args().model)
    rows = read_rows()
    scored = [score(policy, row) for row in rows]
    table = render(rows, scored)
    titles = [f"{row['layout']} ({row['response_format']})" for row in rows]
    titled = [dataclasses.replace(t, question=title) for t, title in zip(scored, titles, strict=True)]
    draw_gains_plot(titled, str(PICTURE))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"\| layout .*?\n\n", table + "\n", text, flags=re.DOTALL), encoding="utf-8")
    print(table)


def read_rows() -> list[dict[str, str]]:
    """Return the rows of the ten transcripts."""
    return [json.loads(line) for line in TRANSCRIPTS.read_text(encoding="utf-8").splitlines()]


def score(policy: Policy, row: dict[str, str]) -> Transcript:
    """Return the transcript of a row with its steps and numbers."""
    fields = {name: row[name] for name in ("question", "answer", "kind", "response")}
    (scored,) = mig_jax.score(policy, [fields], steps=row["split"], response_format=row["response_format"])
    return scored


def render(rows: list[dict[str, str]], scored: list[Transcript]) -> str:
    """Return the table."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    for row, t in zip(rows, scored, strict=True):
        numbers = (f"{x:.2f}".replace("-", "−") for x in (t.ell_k[0], t.ell_k[-1], sum(t.gain_k)))
        split = f"`{row['split']}`" if row["split"] else ""
        cells = [
            row["layout"],
            f"`{row['response_format']}`",
            split,
            str(len(t.steps)),
            f"`{t.format_error}`" if t.format_error else "",
            t.answered or "",
        ]
        lines.append(f"| {' | '.join([*cells, *numbers])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
