"""Grade responses: strictly, from their one answer block, and leniently, from wherever the answer is."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost
from mig_jax.policy.completions import ParsedCompletion
from mig_jax.records.transcripts import Transcript
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import AnswerPair, Grade, Verifier
from mig_jax.text.response_format import MIG, StepFormat, parse_response

# How the answer of a sampled response is read (`reward.reading`): from its one answer block, or from wherever it is.
READINGS = ("strict", "lenient")


class GradedAnswers(NamedTuple):
    """Grades of B sampled responses.

    answers: what each answered, as it was read; None if nothing was found.
    grades: of these answers.
    is_correct: the verdicts of the strict reading, see `Transcript`.
    is_correct_lenient: those of the lenient reading; all None unless that was asked for.
    """

    answers: list[str | None]
    grades: list[Grade]
    is_correct: list[bool | None]
    is_correct_lenient: list[bool | None]


def grade_completions(
    verifier: Verifier,
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    *,
    reading: str,
    format: StepFormat = MIG,
) -> GradedAnswers:
    """Grade the answers of sampled responses; `problems` has one entry for each.

    Args:
      reading: one of `READINGS`. With "lenient" both readings are graded.
      format: of the responses.

    Raises:
      UserError: see `grade_answers`.
    """
    strict = [completion.response.answer for completion in parsed]
    if reading == "strict":
        grades = grade_answers(verifier, problems, strict)
        return GradedAnswers(strict, grades, [grade.is_correct for grade in grades], [None] * len(grades))
    lenient = [
        extract_lenient_answer(format.with_usual_tags(completion.text), kind=problem.kind, choices=problem.choices)
        for problem, completion in zip(problems, parsed, strict=True)
    ]
    grades = grade_answers(verifier, [*problems, *problems], [*strict, *lenient])
    verdicts = [grade.is_correct for grade in grades]
    return GradedAnswers(lenient, grades[len(strict) :], verdicts[: len(strict)], verdicts[len(strict) :])


def grade_answers(
    verifier: Verifier, questions: Sequence[Problem | Transcript], answers: Sequence[str | None]
) -> list[Grade]:
    """Return the grade of each answer beside its question's reference answer.

    All processes call this with the same answers. Each distinct answer is graded by one process, and its grade is
    used by all: processes differ in speed, so their own grades could differ by a time-out.

    Raises:
      UserError: a transcript of a reasoning-gym task lacks the id of its problem.
    """
    pairs = [
        AnswerPair(answer, _reference(question), question.kind, question.choices)
        for question, answer in zip(questions, answers, strict=True)
    ]
    distinct = list(dict.fromkeys(pairs))
    # Exchanged between processes, grades become lists.
    grades = (Grade(*grade) for grade in multihost.split_work(distinct, verifier.grade))
    grade_of = dict(zip(distinct, grades, strict=True))
    return [grade_of[pair] for pair in pairs]


def grade_transcripts(
    transcripts: Sequence[Transcript], verifier: Verifier, format: StepFormat = MIG
) -> list[Transcript]:
    """Return the transcripts with both answers and both verdicts; None if an answer is undecided, see `Grade`.

    Args:
      transcripts: any responses.
      verifier: grades their answers.
      format: that they are read in.

    Raises:
      UserError: see `grade_answers`.
    """
    strict = [parse_response(t.response, format).answer for t in transcripts]
    lenient = [
        extract_lenient_answer(format.with_usual_tags(t.response), kind=t.kind, choices=t.choices) for t in transcripts
    ]
    # One call for both: most answers are the same either way, and equal ones are graded once.
    grades = grade_answers(verifier, [*transcripts, *transcripts], [*strict, *lenient])
    verdicts = [grade.is_correct for grade in grades]
    n = len(transcripts)
    return [
        dataclasses.replace(
            transcript,
            is_correct=is_correct,
            is_correct_lenient=is_correct_lenient,
            answered=answer or "",
            answered_lenient=answer_lenient or "",
        )
        for transcript, is_correct, is_correct_lenient, answer, answer_lenient in zip(
            transcripts, verdicts[:n], verdicts[n:], strict, lenient, strict=True
        )
    ]


def _reference(question: Problem | Transcript) -> str:
    """Return what an answer is compared with: the reference answer, or the id of a task that grades by itself."""
    return question.id if question.kind == "reasoning_gym" else question.answer
