"""Is a response right? Read strictly, from its one answer block, and leniently, from wherever its answer stands."""

import dataclasses
from collections.abc import Sequence

from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost
from mig_jax.records.transcripts import Transcript
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import AnswerPair, Verifier
from mig_jax.text.response_format import parse_response


def reference_answer(asked: Problem | Transcript) -> str:
    """What an answer is checked against: the reference answer, or the problem whose task checks by itself."""
    return asked.id if asked.kind == "reasoning_gym" else asked.answer


def grade_items(verifier: Verifier, items: Sequence[AnswerPair]) -> list[bool | None]:
    """Is each answer right? None: the check did not come to an end.

    All processes have the same items. Each different one is checked by one process, and what that says holds for all:
    they are not equally fast.
    """
    different = list(dict.fromkeys(items))
    verdicts = dict(zip(different, multihost.split_work(different, verifier.grade), strict=True))
    return [verdicts[item] for item in items]


def grade_transcripts(transcripts: Sequence[Transcript], verifier: Verifier) -> list[Transcript]:
    """The same transcripts with both verdicts; None where a check did not come to an end.

    Raises:
      ValueError: a transcript of a reasoning-gym task lacks the id of its problem.
    """
    strict = [parse_response(t.response).answer for t in transcripts]
    lenient = [extract_lenient_answer(t.response, kind=t.kind, choices=t.choices) for t in transcripts]
    references = [reference_answer(t) for t in transcripts]
    # All in one call: most answers are the same on both readings, and what is the same is checked once.
    verdicts = grade_items(
        verifier,
        [
            AnswerPair(answer, reference, t.kind, t.choices)
            for answers in (strict, lenient)
            for answer, reference, t in zip(answers, references, transcripts, strict=True)
        ],
    )
    n = len(transcripts)
    return [
        dataclasses.replace(t, is_correct=verdicts[row], is_correct_lenient=verdicts[n + row])
        for row, t in enumerate(transcripts)
    ]
