"""Variants of answers, and comparison of answers without algebra."""

import itertools
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from mig_jax.data import problem
from mig_jax.text.answers import verifier
from mig_jax.text.answers.choices import edit_distance, is_nearest_choice, is_same_choice
from mig_jax.text.answers.compare import COMPARISONS
from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.normalize import is_same_text, normalize
from mig_jax.text.answers.quantities import parse_number_answer
from mig_jax.text.answers.variants import answer_variants
from mig_jax.text.answers.votes import vote_key
from tests.text.answers.answer_pairs import BANKS, HOSTILE_RESPONSES, PAIRS
from tests.text.hostile import hostile_completions

VARIANTS = {
    "1/2": ["1/2", "0.5", r"\frac{1}{2}", "50%"],
    "0.5": ["0.5", "1/2", r"\frac{1}{2}", "50%"],
    "-0.5": ["-0.5", "-1/2", r"-\frac{1}{2}"],
    r"-\dfrac{3}{8}": [r"-\dfrac{3}{8}", r"-\frac{3}{8}", "-0.375", "-3/8"],
    "2/4": ["2/4", "0.5", "1/2", r"\frac{1}{2}", "50%"],
    "1/3": ["1/3", r"\frac{1}{3}"],
    "3.14159": ["3.14159"],
    "2.50": ["2.50", "2.5", "5/2", r"\frac{5}{2}"],
    r"50\%": [r"50\%", "50%", "0.5", "1/2", r"\frac{1}{2}"],
    "12.5%": ["12.5%", r"12.5\%", "0.125", "1/8", r"\frac{1}{8}"],
    "+7": ["+7", "7"],
    "5.0": ["5.0", "5"],
    "0": ["0"],
    "1234567": ["1234567", "1,234,567"],
    "-1,234": ["-1,234", "-1234"],
    r"10{,}000": [r"10{,}000", "10,000", "10000"],
    "x = 5": ["x = 5", "5"],
    "y=1/4": ["y=1/4", "1/4", "0.25", r"\frac{1}{4}", "25%"],
    r"\text{A}": [r"\text{A}", "A"],
    "$5$": ["$5$", "5"],
    r" \( \boxed{\tfrac{\pi}{2}} \) ": [r"\( \boxed{\tfrac{\pi}{2}} \)", r"\frac{\pi}{2}"],
    r"\left(1, 2\right)": [r"\left(1, 2\right)", "(1, 2)"],
    "Paris": ["Paris"],
    "x^2+1": ["x^2+1"],
}


@pytest.mark.parametrize("reference", VARIANTS)
def test_variants(reference):
    variants = answer_variants(reference, kind="expression", limit=8)
    assert list(variants) == VARIANTS[reference]
    assert answer_variants(reference, kind="expression", limit=2) == variants[:2]
    for variant in variants:
        assert is_same_math(variant, reference) is True
        assert is_same_math(reference, variant) is True


@pytest.mark.parametrize(
    "kind, reference, variants",
    [
        ("number", "$1,200", ["$1,200", "1,200", "1200"]),
        ("number", "12 apples", ["12 apples", "12"]),
        ("number", "1 1/2", ["1 1/2", "1.5", "3/2", r"\frac{3}{2}"]),
        ("choice", "B", ["B", "(B)", "bank"]),
        ("choice", "(b)", ["(b)", "B", "(B)", "bank"]),
        ("nearest_choice", "C", ["C", "(C)", "a boat"]),
        ("yes_no", "Yes", ["Yes", "yes"]),
        ("yes_no", "no", ["no", "No"]),
        ("yes_no", "TRUE", ["TRUE", "True", "true"]),
        ("set", "1, -2", ["1, -2", r"\{1, -2\}"]),
        ("set", r"\{1,2\}", [r"\{1,2\}", "1, 2", r"\{1, 2\}"]),
        ("set", "AC", ["AC", r"\{AC\}", "A, C"]),
        ("set", "C, A", ["C, A", r"\{C, A\}", "A, C", "AC"]),
        ("text", " New York ", ["New York", "new york"]),
        ("text", r"\text{red}.", [r"\text{red}.", "red", "Red"]),
        ("relaxed", "50%", ["50%", "0.5"]),
        ("relaxed", "0.50", ["0.50", "0.5", "50%"]),
        ("relaxed", "12.3%", ["12.3%", "0.123"]),
        ("relaxed", "-1200.0", ["-1200.0", "-1200"]),
        ("relaxed", "7", ["7", "7.0"]),
        ("relaxed", "south Asia", ["south Asia", "South Asia", "south asia"]),
        ("relaxed", "nan", ["nan"]),
        ("integer", "1400", ["1400", "1400.0"]),
        ("integer", "-3", ["-3", "-3.0"]),
        ("integer", "07", ["07"]),
        ("rounded", "0.50", ["0.50", "0.5", "0.500"]),
        ("rounded", "-2.0", ["-2.0", "-2", "-2.00"]),
        ("rounded", "3", ["3", "3.0"]),
        ("reasoning_gym", "0.5", ["0.5"]),
    ],
)
def test_variants_by_kind(kind, reference, variants):
    choices = BANKS if "choice" in kind else ()
    assert list(answer_variants(reference, kind=kind, choices=choices, limit=8)) == variants
    assert list(answer_variants(reference, kind=kind, choices=choices, limit=1)) == variants[:1]


@pytest.mark.parametrize("reference", ["1e-999999999", "1e999", "9" * 5000, "0." + "9" * 5000, "1_000", "٣", "ß", "."])
@pytest.mark.parametrize("kind", ["relaxed", "integer", "rounded", "text", "nearest_choice", "reasoning_gym"])
def test_variants_of_odd_references_begin_with_the_reference(kind, reference):
    first, *others = answer_variants(reference, kind=kind, limit=8)
    assert first == reference and all(COMPARISONS[kind](text, reference, ()) is True for text in others)


def test_kinds_that_are_written_in_several_ways_have_several_variants():
    references = {(pair.reference, pair.kind, pair.choices) for pair in PAIRS}
    several = {
        kind: [len(answer_variants(reference, kind=kind, choices=choices, limit=9)) > 1
               for reference, other, choices in references if other == kind]
        for kind in verifier.KINDS
    }  # fmt: skip
    share = {kind: np.mean(has_several) for kind, has_several in several.items()}
    assert share.pop("reasoning_gym") == 0 and min(share.values()) > 0.25, share


def test_every_variant_is_right():
    """Check this without a worker, for each reference answer and all its variants."""
    references = {(pair.reference, pair.kind, pair.choices) for pair in PAIRS if pair.kind != "reasoning_gym"}
    assert len(references) > 180
    for reference, kind, choices in references:
        for variant in answer_variants(reference, kind=kind, choices=choices, limit=9):
            assert COMPARISONS[kind](variant, reference, choices) is True, (variant, reference, kind)


@pytest.mark.parametrize(
    "kind, answers, others",
    [
        ("number", ["18", "$18", "18.00", "18 dollars", "x = 18", "36/2"], ["-18", "18 or 19", "eighteen"]),
        ("number", ["50%", "50"], ["0.5"]),
        ("number", ["Unknown", "**unknown**."], ["0"]),
        ("expression", ["1/2", "0.5", r"\frac{1}{2}", r"x = \tfrac12", "0.50 cm"], ["1/3", "x/2", "2^{-1}"]),
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
    same = [
        (one.response, other.reference, kind, choices)
        for (kind, choices), pairs in by_question.items()
        for one, other in itertools.product(pairs, repeat=2)
        if vote_key(one.response, kind=kind, choices=choices) == vote_key(other.reference, kind=kind, choices=choices)
    ]
    grades = [(pair, COMPARISONS[pair[2]](pair[0], pair[1], pair[3])) for pair in same]
    assert sum(grade is True for _, grade in grades) > 600
    # Vote keys ignore units, so that 5 km and 5 are one vote. Pairs that take algebra are undecided here.
    wrong = [pair for pair, grade in grades if grade is False and not _have_units(*pair[:2])]
    undecided = {pair[2] for pair, grade in grades if grade is None}
    assert (wrong, undecided) == ([], {"expression", "set"})


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


def _have_units(*answers: str) -> bool:
    """Return whether all answers are numbers with known units."""
    numbers = [parse_number_answer(answer) for answer in answers]
    return all(number and number.unit for number in numbers)


def test_kinds_match_those_of_problems():
    assert verifier.KINDS == problem.KINDS


@pytest.mark.parametrize(
    "answer, normalized",
    [
        ("$5$ and $6$", "5 and 6"),
        (r"\text{A} and \text{B}", r"\text{A} and \text{B}"),
        (r"\text{A} and \frac{1}{2}", r"\text{A} and \frac{1}{2}"),
        (r"\(a\) or \(b\)", r"\(a\) or \(b\)"),
        (r"\leftarrow", r"\leftarrow"),
        ("2pi r^2", r"2\pi r^2"),
        ("pizza", "pizza"),
        ("x**2", "x^2"),
        ("**5**.", "5"),
        (r"\$5", "5"),
        ("\N{MINUS SIGN}5", "-5"),
        (r"\text{\boxed{A}}", "A"),
        ("５０％。", "50%"),
        ("x²+10⁻³", "x^{2}+10^{-3}"),
        ("1½", r"1\frac{1}{2}"),
        ("(sqrt(2), √(x+1)]", r"(\sqrt{2}, \sqrt{x+1}]"),
        ("sqrt2", r"\sqrt{2}"),
        ("cos(x) ln 2", r"\cos (x) \ln 2"),
        ("a tan line", "a tan line"),
        (r"1 & 2 \\ 3", r"1 & 2 \\ 3"),
        ("\u200e42\ufeff", "42"),
        ("$", ""),
        ("", ""),
    ],
)
def test_normalize(answer, normalized):
    assert normalize(answer) == normalized
    assert normalize(normalized) == normalized


@pytest.mark.parametrize(
    "response, reference, grade",
    [
        ("1e3", "1000", True),
        ("1.5E-1", "0.15", True),
        (".50", "1/2", True),
        ("50", "50%", True),
        ("0.5", "50%", True),
        ("5000%", "50%", False),
        ("0.333333", "1/3", False),
        ("1,23", "123", None),
        ("12,34,567", "1234567", None),
        ("1 2", "12", False),
        ("1 200", "1200", True),
        ("1 1/2", "1.5", True),
        ("5 dollars", "5", True),
        ("5 m", "5", None),
        (r"5 \text{ m}", "5", True),
        (r"5 \text{ m}", r"5 \text{ km}", False),
        (r"2\pi \text{ cm}", r"2\pi", True),
        (r"\text{New} \text{Jersey}", r"\text{New}", None),
        (r"\{1,2\}", "(1,2)", False),
        ("(" * 13, "x", False),
        ("(" * 12, "x", None),
        ("$1$$2$", "12", False),
        ("1/0", "1/0 ", True),
        ("1/0", "0", None),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("x=5", "x = 5.0", True),
        ("x=5", "y=5", None),
        ("2x+1", "y = 2x+1", True),
        # Words are not products of letters.
        ("Paris", "paris", True),
        ("pairs", "Paris", False),
        ("York New", "New York", False),
        ("ba", "ab", None),
        # The question repeated is not an answer.
        ("3*4+2", "14", False),
        (r"3 \times 4", "12", False),
        ("(1+1)(1+6)", "14", False),
        ("(2)(7)", "14", False),
        ("2 7", "14", False),
        (r"2^{3}", "8", None),
        ("14+0", "14", False),
        ("3*4+2=14", "14", None),
        (r"1.4 \times 10^1", "14", True),
        ("-14", "14", False),
        ("x^{-2}", "14", None),
        ("1+x", "x+1", None),
        # Numbers with far too many digits.
        ("1e999999999", "7", None),
        ("1e999", "7", False),
        ("9" * 2000, "7", None),
    ],
)
def test_is_same_math(response, reference, grade):
    assert is_same_math(response, reference) is grade


@pytest.mark.parametrize(
    "response", ["B", "b", " B ", "(B)", "B.", "B)", "(b).", r"\text{B}", "**B**", "$B$.", "B. Paris", "B) 4"]
)
def test_same_choice(response):
    assert is_same_choice(response, "B")
    assert is_same_choice(response, r"\text{(B)}")
    assert not is_same_choice(response, "C")


@pytest.mark.parametrize("response", ["", "A or B", "AB", "Because", "A, B", "not B", "Paris", "8"])
def test_not_a_choice(response):
    assert not is_same_choice(response, "B")


def test_same_text():
    assert is_same_text(" New\n york", "New  York ")
    assert is_same_choice("paris", "Paris")
    assert not is_same_text("NewYork", "New York")


@pytest.mark.parametrize(
    "answer, value, unit",
    [
        ("42", 42, ""),
        ("-2 3/4", Fraction(-11, 4), ""),
        (r".\overline{9}", 1, ""),
        (r"3\overline{3}", None, ""),
        ("US$1.2 million", 1_200_000, "$"),
        ("$5 USD", 5, "$"),
        ("45 mph", 45, "h^-1 mi"),
        ("3 m³", 3, "m^3"),
        ("3 cubic Meters", 3, "m^3"),
        (r"5\ \text{kg} \cdot \text{m}/\text{s}^2", 5, "kg m s^-2"),
        ("12 sq. ft.", 12, "ft^2"),
        ("5 pages a day", 5, "day^-1"),
        ("12 apples", 12, ""),
        ("12apples", None, ""),
        ("5 x", None, ""),
        ("5 apples or pears", None, ""),
        ("9" * 101, None, ""),
    ],
)
def test_parse_number_answer(answer, value, unit):
    number = parse_number_answer(answer)
    assert (number and number[:2]) == (None if value is None else (value, unit))


def test_edit_distance():
    table = {
        ("kitten", "sitting"): 3,
        ("flaw", "lawn"): 2,
        ("", "abc"): 3,
        ("abc", ""): 3,
        ("ab", "ba"): 2,
        ("a", "a"): 0,
    }
    assert {pair: edit_distance(*pair) for pair in table} == table
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, second = ("".join(rng.choice(list("abc"), size)) for size in rng.integers(0, 12, 2))
        row = list(range(len(second) + 1))
        for i, a in enumerate(first):
            previous, row = row, [i + 1]
            for j, b in enumerate(second):
                row.append(min(previous[j] + (a != b), previous[j + 1] + 1, row[j] + 1))
        assert edit_distance(first, second) == row[-1], (first, second)


def test_exactly_one_choice_is_nearest_to_any_response():
    for response in HOSTILE_RESPONSES:
        response = response[:2000]
        assert sum(is_nearest_choice(response, letter, BANKS) for letter in "ABCD") == 1
    # A reference that is not the letter of a choice is compared without choices.
    assert is_nearest_choice("E", "E", BANKS) and is_nearest_choice("(b)", "B")


def test_comparisons_never_raise():
    """Check this with fragments and parts of the table, as responses and as references."""
    rng = np.random.default_rng(0)
    pieces = [pair.response for pair in PAIRS] + list(r"()[]{}\$.,;:-+*/^_%=<>| ½²√∞±≤")
    by_kind = {kind: list(pairs) for kind, pairs in itertools.groupby(PAIRS, lambda pair: pair.kind)}
    assert by_kind.keys() == set(problem.KINDS)
    mixed = ("".join(rng.choice(pieces, rng.integers(1, 6))) for _ in range(500))
    for text in itertools.chain(hostile_completions(rng, 500), mixed, HOSTILE_RESPONSES):
        text = text[:2000]
        for kind, pairs in by_kind.items():
            pair = pairs[rng.integers(len(pairs))]
            assert COMPARISONS[kind](text, pair.reference, pair.choices) in (True, False, None)
            assert COMPARISONS[kind](pair.response, text, pair.choices) in (True, False, None)
            assert answer_variants(text, kind=kind, choices=pair.choices, limit=4)[0] == text.strip()
            assert isinstance(vote_key(text, kind=kind, choices=pair.choices), str)


def test_imports_are_light():
    """Check that the modules that workers import do not import libraries that take seconds to load."""
    code = (
        "import sys\n"
        "from mig_jax.text import response_format, tokenizer\n"
        "from mig_jax.text.answers import compare, lenient, verifier, verifier_worker\n"
        "slow = {'jax', 'transformers', 'tokenizers', 'sympy', 'math_verify', 'reasoning_gym'}\n"
        "print(*slow.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")
