"""Graded transcripts of hand-made problems."""

from typing import Any

from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import render_response


def response(answer: str) -> str:
    """Return a well-formed response."""
    return render_response(["count"], answer)


def transcript(id, sampling, is_correct, *, answer="4", lenient="same", **fields) -> Transcript:
    """Return a response to 2 + 2; `lenient` is its lenient verdict if that differs."""
    return Transcript(
        question="2 + 2?",
        response=fields.pop("response", response(answer)),
        answer="4",
        kind=fields.pop("kind", "number"),
        is_correct=is_correct,
        is_correct_lenient=is_correct if lenient == "same" else lenient,
        id=id,
        sampling=sampling,
        **fields,
    )


def problem(id, greedy, sampled, **fields) -> list[Transcript]:
    """Return a greedy response and samples with these verdicts; they answer 4 if correct, else 5."""
    verdicts = [("greedy", greedy), *(("sampled", correct) for correct in sampled)]
    return [
        transcript(id, sampling, correct, answer="4" if correct else "5", **fields) for sampling, correct in verdicts
    ]


def hallusion_bench(verdicts: dict[str, bool | None]) -> list[Transcript]:
    """Return a greedy and a sampled response of each question of HallusionBench, by id."""
    problems = [problem(id, correct, [correct], source="hallusion_bench") for id, correct in verdicts.items()]
    return [transcript for transcripts in problems for transcript in transcripts]


def means(metrics: dict[str, Any], criterion: str = "strict") -> dict[str, float]:
    """Return the mean of each metric by one criterion."""
    return {name: estimates[criterion]["mean"] for name, estimates in metrics.items()}
