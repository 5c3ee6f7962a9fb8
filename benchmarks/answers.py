"""How well and how fast answers are graded, beside math-verify alone.

    python -m benchmarks.answers
    python -m benchmarks.answers --references 200 --no-math-verify

Makes references of every kind, respells each in some of over 100 ways, and makes near misses of them (another digit,
sign, bracket, base, unit, root, exponent; members swapped). Prints which share of the respelled answers is accepted and
which share of the near misses is rejected, by kind; the rules that fail; answers that any reference accepts; and the
time that a rollout of math answers takes. Math-verify grades the same pairs of mathematical kinds, with its defaults.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mig_jax.text.answers.compare import COMPARISONS
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import AnswerPair, Verifier
from tests.text.answers.bodies import FAMILIES, MATH, UNIVERSAL, Case, make_references, nearly_miss, respell
from tests.text.answers.readings import READINGS

# A rollout: questions and samples of each.
QUESTIONS, SAMPLES = 128, 16


class Graded(NamedTuple):
    """Cases with their grades.

    grades: whether each case was accepted; None if undecided.
    seconds: of all together.
    """

    cases: Sequence[Case]
    grades: Sequence[bool | None]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=2000, help="references to make")
    parser.add_argument("--spellings", type=int, default=3, help="respelled answers of each reference, at most")
    parser.add_argument("--misses", type=int, default=1000, help="near misses")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the verifier")
    parser.add_argument("--no-math-verify", action="store_true", help="leave out math-verify, which takes minutes")
    parser.add_argument("--failures", type=int, default=10, help="failing rules to print")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    references = make_references(args.references, rng)
    right = _balanced(list(respell(references)), args.spellings * len(references), rng)
    wrong = _balanced(list(nearly_miss(references)), args.misses, rng)
    n_rules = len({case.rule for case in right})
    print(f"{len(references)} references of {len(FAMILIES)} families, respelled in {n_rules} ways")
    with Verifier(workers=args.workers) as verifier:
        verifier.grade([AnswerPair(r"\int x dx", r"\int x dx + 1", "expression")])  # starts a worker
        graders = {"mig_jax": lambda cases: _grade(verifier, cases)}
        if not args.no_math_verify:
            graders["math-verify"] = _math_verify_alone
        for name, grade in graders.items():
            _print_rates(name, grade(right), grade(wrong), args.failures)
        _print_universal(verifier, references)
        _print_readings(verifier)
        _print_rollout(verifier, references, rng)


def _balanced(cases: list[Case], n: int, rng: np.random.Generator) -> list[Case]:
    """Return at most n cases, so that each rule has about the same number."""
    by_rule: dict[str, list[Case]] = defaultdict(list)
    for index in rng.permutation(len(cases)):
        by_rule[cases[index].rule].append(cases[index])
    chosen: list[Case] = []
    while len(chosen) < min(n, len(cases)):
        chosen += [of_rule.pop() for of_rule in by_rule.values() if of_rule]
    return chosen[:n]


def _grade(verifier: Verifier, cases: Sequence[Case]) -> Graded:
    """Grade cases with our verifier."""
    pairs = [AnswerPair(case.response, case.reference.answer, *case.reference[1::2]) for case in cases]
    start = time.perf_counter()
    grades = verifier.grade(pairs)
    return Graded(cases, [grade.is_correct for grade in grades], time.perf_counter() - start)


def _math_verify_alone(cases: Sequence[Case]) -> Graded:
    """Grade the cases of mathematical kinds with math-verify, each answer written between dollar signs."""
    import logging

    import math_verify

    logging.disable()
    cases = [case for case in cases if case.reference.kind in MATH]
    start = time.perf_counter()
    grades: list[bool | None] = []
    for case in cases:
        wanted, given = (math_verify.parse(f"${text}$") for text in (case.reference.answer, case.response))
        grades.append(math_verify.verify(wanted, given))
    return Graded(cases, grades, time.perf_counter() - start)


def _print_rates(name: str, right: Graded, wrong: Graded, n_failures: int) -> None:
    """Print the accept and reject rates by kind, and the rules that fail most."""
    print(f"\n{name:15} respelled  accepted  near misses  rejected  pairs/s")
    for kind in (*dict.fromkeys(kind for kind, _ in FAMILIES.values()), "all"):
        (n_right, accepted), (n_wrong, rejected) = _rate(right, kind, True), _rate(wrong, kind, False)
        if n_right:
            speed = f"{(n_right + n_wrong) / (right.seconds + wrong.seconds):8.0f}" if kind == "all" else ""
            print(f"{kind:15} {n_right:9} {accepted:9.1%} {n_wrong:12} {rejected:9.1%} {speed}")
    failed = Counter(
        (case.rule, case.reference.family, expected)
        for graded, expected in ((right, True), (wrong, False))
        for case, grade in zip(graded.cases, graded.grades, strict=True)
        if grade is not expected
    )
    for (rule, family, expected), n in failed.most_common(n_failures):
        print(f"  {n:4} × {rule} of {family} {'refused' if expected else 'accepted'}")


def _rate(graded: Graded, kind: str, expected: bool) -> tuple[int, float]:
    """Return the number of cases of a kind and the share graded as expected."""
    verdicts = [
        grade is expected
        for case, grade in zip(graded.cases, graded.grades, strict=True)
        if kind in (case.reference.kind, "all")
    ]
    return len(verdicts), float(np.mean(verdicts)) if verdicts else 1.0


def _print_universal(verifier: Verifier, references: Sequence) -> None:
    """Print how many answers are accepted that answer nothing, one reference of each family beside all of them."""
    one_each = {
        reference.family: reference
        for reference in references
        if reference.kind not in ("choice", "nearest_choice", "yes_no")
    }
    cases = [
        Case(text, reference, "") for reference in one_each.values() for text in UNIVERSAL if text != reference.answer
    ]
    accepted = [case for case, grade in zip(cases, _grade(verifier, cases).grades, strict=True) if grade]
    print(f"\nuniversal answers: {len(accepted)} of {len(cases)} pairs accepted", *(case[:2] for case in accepted))


def _print_readings(verifier: Verifier) -> None:
    """Print the share of completions that are read and graded as they are meant."""
    start = time.perf_counter()
    answers = [extract_lenient_answer(of.completion, kind=of.kind, choices=of.choices) for of in READINGS]
    seconds = time.perf_counter() - start
    grades = verifier.grade([AnswerPair(answer, *of[1:4]) for answer, of in zip(answers, READINGS, strict=True)])
    right = sum(grade.is_correct is of.expected for grade, of in zip(grades, READINGS, strict=True))
    print(f"lenient reading: {right} of {len(READINGS)} completions as meant, {len(READINGS) / seconds:.0f} a second")


def _print_rollout(verifier: Verifier, references: Sequence, rng: np.random.Generator) -> None:
    """Print how long a rollout of mathematical answers takes, and which share of it needs no worker."""
    questions = [reference for reference in references if reference.kind == "expression"][:QUESTIONS]
    cases: list[Case] = []
    for make, share in ((respell, 0.6), (nearly_miss, 0.4)):
        for question in questions:
            made = list(make([question])) or [Case(question.answer, question, "same")]
            cases += [made[index] for index in rng.integers(len(made), size=round(share * SAMPLES))]
    compare: Callable = COMPARISONS["expression"]
    at_once = [compare(case.response, case.reference.answer, ()) is not None for case in cases]
    seconds = _grade(verifier, cases).seconds
    print(f"rollout: {len(cases)} answers in {seconds:.2f} s, {np.mean(at_once):.1%} of them without a worker")


if __name__ == "__main__":
    main()
