"""Keys of answers in majority votes."""

import itertools

import numpy as np
import pytest

from mig_jax.text.answers.compare import COMPARISONS
from mig_jax.text.answers.quantities import parse_number_answer
from mig_jax.text.answers.votes import vote_key
from tests.text.answers.answer_pairs import BANKS, PAIRS
from tests.text.answers.bodies import MATH, make_references, respell


def _have_units(*answers: str) -> bool:
    """Return whether all answers are numbers with known units."""
    numbers = [parse_number_answer(answer) for answer in answers]
    return all(number and number.unit for number in numbers)


@pytest.mark.parametrize(
    "kind, answers, others",
    [
        ("number", ["18", "$18", "18.00", "18 dollars", "x = 18", "36/2"], ["-18", "18 or 19", "eighteen"]),
        ("number", ["50%", "50"], ["0.5"]),
        ("number", ["Unknown", "**unknown**."], ["0"]),
        ("expression", ["1/2", "0.5", r"\frac{1}{2}", r"x = \tfrac12", "0.50 cm"], ["1/3", "x/2", "2^{-2}"]),
        ("expression", ["(1, 2)", r"\left(1,2\right)", "$(1 , 2)$"], ["(2, 1)", "(12)"]),
        ("expression", ["1 2"], ["12"]),
        ("choice", ["B", "(b)", "B.", "bank", "**Bank**.", "B) bank", "B) because of the money"], ["C", "a boat", "E"]),
        ("nearest_choice", ["B", "(B)", "bank", "banks", "the bank"], ["A", "rivers"]),
        ("yes_no", ["Yes", "TRUE", "yes, it is", "**Yes.**"], ["no", "No, yes", "maybe", "yes and no"]),
        ("set", ["1, -2", r"\{-2, 1\}", "-2.0 and 2/2"], ["1, 2", "-1"]),
        ("set", ["A, C", "CA", "(c), (a)", "C. a boat, A. river"], ["A", "A, B"]),
        ("set", ["Red, blue", "blue and red"], ["redblue"]),
        ("relaxed", ["5%", "0.05"], ["5", "0.051", "nan"]),
        ("integer", ["14", "14.0", "1.4e1"], ["1,400", "15"]),
        ("rounded", ["1.20", "1.2"], ["1.2 m", "inf"]),
        ("text", ["New  York", "**new york**"], ["York"]),
        ("reasoning_gym", ["-128", " -128."], ["128"]),
    ],
)
def test_equal_answers_have_one_vote_key(kind, answers, others):
    choices = BANKS if "choice" in kind else ()
    first, *keys = [vote_key(answer, kind=kind, choices=choices) for answer in (*answers, *others)]
    assert first and [key == first for key in keys] == [True] * len(answers[1:]) + [False] * len(others)


def test_vote_keys_of_letters_without_choices():
    keys = [vote_key(answer, kind="choice") for answer in ("B", "(b)", "B. Paris", "C", "Paris", "paris.")]
    assert keys == ["b", "b", "b", "c", "paris", "paris"]
    assert [vote_key(answer, kind="choice", choices=("15", "50", "50")) for answer in ("50", "B")] == ["b", "b"]


def test_one_vote_key_means_one_answer():
    """Check that of any two right answers with equal keys, each is right if the other is the reference."""
    by_question = {}
    for pair in PAIRS:
        if pair.expected and pair.kind != "reasoning_gym":
            by_question.setdefault((pair.kind, pair.choices), []).append(pair)
    same = []
    for (kind, choices), pairs in by_question.items():
        keyed = [
            [(pair, vote_key(text, kind=kind, choices=choices)) for pair, text in zip(pairs, texts, strict=True)]
            for texts in ([pair.response for pair in pairs], [pair.reference for pair in pairs])
        ]
        for (one, key), (other, other_key) in itertools.product(*keyed):
            if key == other_key:
                same.append((one.response, other.reference, kind, choices))
    grades = [(pair, COMPARISONS[pair[2]](pair[0], pair[1], pair[3])) for pair in same]
    assert sum(grade is True for _, grade in grades) > 600
    # Vote keys ignore units, so that 5 km and 5 are one vote; and names: a calculation has the vote of its result.
    wrong = [pair[:2] for pair, grade in grades if not grade and not _have_units(*pair[:2])]
    assert wrong == [("3*14 = 42", "x = 42")]


def test_wrong_answers_have_other_vote_keys():
    same = [
        pair[:3]
        for pair in PAIRS
        if not pair.expected and pair.kind != "reasoning_gym" and not _have_units(*pair[:2])
        if vote_key(pair.response, kind=pair.kind, choices=pair.choices)
        == vote_key(pair.reference, kind=pair.kind, choices=pair.choices)
    ]
    # These have equal keys, but are wrong by the rules of their kinds.
    assert same == [("x=5", "y=5", "expression"), ("0.0", "0", "relaxed"), ("France.", "france", "relaxed")]


# Answers to formulas, of which all in a row are one vote, and no two rows are.
BALLOTS = (
    (r"\frac{1}{2}", "0.5", r"2^{-1}", r"\cos 60^\circ", "x = 1/2", "½"),
    ("4210_7", "4210_{7}", "4210 base 7"),
    ("4210", "4,210"),
    (r"(-\infty,2)\cup(3,\infty)", "(-∞, 2) ∪ (3, ∞)", "x<2 or x>3"),
    (r"[2, 3]", r"2 \le x \le 3"),
    ("2k", "2*k", r"2 \cdot k", r"k\cdot 2", "k+k"),
    (r"2\sqrt{3}", "2√3", r"\sqrt{12}", r"2\cdot 3^{1/2}"),
    ("25π", r"25\pi", "25*pi"),
    ("3+4i", "4i+3", "3 + 4*I"),
    ("(1, 2)", r"\left(1,2\right)", r"\langle 1, 2 \rangle", "x=1, y=2"),
    ("2, 1", "1 and 2", r"\{1,2\}", "x=1 or x=2"),
    ("x^2+2x+1", "(x+1)^2", "f(x) = x^2 + 2x + 1"),
    ("t^2+2t+1",),
    ("2x + y = 5", "4x+2y=10", "y+2x=5"),
    ("x^2+50=0",),
    ("x^2+121=0",),
    ("HT",),
    ("TH",),
    (r"\text{north}", "north"),
    ("south",),
    (r"\log_2 8", "3", "sqrt(9)", "2+1=3"),
    (r"\frac{1}{2^{55}}", "2^{-55}"),
    (r"\frac{1}{2^{56}}",),
)


def test_ballots_of_formulas():
    keys = [{vote_key(answer, kind="expression") for answer in row} for row in BALLOTS]
    assert [row for row, found in zip(BALLOTS, keys, strict=True) if len(found) != 1] == []
    assert len(set().union(*keys)) == len(BALLOTS)


def test_respelled_answers_have_the_same_key():
    """Check all references of the table and generated ones; units do not count or convert, and 50% counts as 50."""
    cases = [
        (case.response, case.reference.answer, case.reference.kind, case.reference.choices)
        for case in respell(make_references(100, np.random.default_rng(2)))
    ]
    cases += [pair[:4] for pair in PAIRS if pair.expected and pair.kind in (*MATH, "choice", "yes_no")]
    different = [
        case
        for case in cases
        if vote_key(case[0], kind=case[2], choices=case[3]) != vote_key(case[1], kind=case[2], choices=case[3])
    ]
    assert len(cases) > 1500
    assert [case[:2] for case in different if not _have_percent(*case[:2])] == [
        ("30 minutes", "0.5 hours"),
        ("50 mm", "5 cm"),
        ("y - 2x - 1 = 0", "y = 2x+1"),
    ]


def _have_percent(response: str, reference: str) -> bool:
    """Return whether one of two answers is a percentage."""
    return "%" in response + reference or "percent" in response + reference
