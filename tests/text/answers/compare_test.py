"""Comparison of answers without algebra."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
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
        ("1,23", "123", False),
        ("12,34,567", "1234567", False),
        ("1 2", "12", False),
        ("1 200", "1200", True),
        ("1 1/2", "1.5", True),
        ("5 dollars", "5", True),
        ("5 m", "5", True),
        (r"5 \text{ m}", "5", True),
        (r"5 \text{ m}", r"5 \text{ km}", False),
        (r"2\pi \text{ cm}", r"2\pi", True),
        (r"\text{New} \text{Jersey}", r"\text{New}", False),
        (r"\{1,2\}", "(1,2)", False),
        ("(" * 13, "x", False),
        ("(" * 12, "x", False),
        ("$1$$2$", "12", False),
        ("1/0", "1/0 ", True),
        ("1/0", "0", False),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("x=5", "x = 5.0", True),
        ("x=5", "y=5", False),
        ("2x+1", "y = 2x+1", True),
        # Words are not products of letters.
        ("Paris", "paris", True),
        ("pairs", "Paris", False),
        ("York New", "New York", False),
        ("ba", "ab", True),
        # The question repeated is not an answer.
        ("3*4+2", "14", False),
        (r"3 \times 4", "12", False),
        ("(1+1)(1+6)", "14", False),
        ("(2)(7)", "14", False),
        ("2 7", "14", False),
        (r"2^{3}", "8", True),
        ("14+0", "14", False),
        ("3*4+2=14", "14", True),
        (r"1.4 \times 10^1", "14", True),
        ("-14", "14", False),
        ("x^{-2}", "14", False),
        ("1+x", "x+1", True),
        # Numbers with far too many digits.
        ("1e999999999", "7", False),
        ("1e999", "7", False),
        ("9" * 2000, "7", False),
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


# What answers are made of, and what breaks parsers.
FRAGMENTS = (
    *"()[]{}$.,;:-+*/^_%=<>|!'\\&~ 0 9 x y i e n ½ ² √ ∞ ≤ ± 米 个 或 万 ９ ￥ \x00 \u202e \ud800".split(" "),
    *r"\frac \sqrt \binom \choose \pm \cup \in \infty \pi \sin \log_ \lfloor \rceil \int \sum \boxed{ \text{".split(),
    *r"\\ \{ \} \langle \rangle \setminus \mathbb{R} \approx \leq \neq \begin{pmatrix} \end{pmatrix}".split(),
    *(r"\begin{cases}", r"^\circ", "_7", ":30", " pm", "10^", "9^9^", "n!", "!!", "f(", "1/0", "99", "1,000"),
    *(" and ", " or ", " to ", " base ", "-"),
)


def _hostile_texts(rng: np.random.Generator, n: int) -> Iterator[str]:
    """Yield texts of ten kinds, `n` of each but the last, which are as many as there are."""
    pieces = [pair.response for pair in PAIRS]
    for _ in range(n):
        yield from hostile_completions(rng, 1)
        yield "".join(rng.choice(pieces, rng.integers(1, 6)))
        yield "".join(rng.choice([*pieces, *FRAGMENTS], rng.integers(1, 9)))
        yield "".join(rng.choice(FRAGMENTS, rng.integers(1, 40)))
        yield str(rng.choice(FRAGMENTS)) * int(rng.integers(2, 300))
        yield "".join(rng.choice(FRAGMENTS, 3)) * int(rng.integers(2, 150))
        yield rng.choice(pieces)[::-1]
        yield ", ".join(rng.choice(pieces, rng.integers(2, 60)))
        yield f"({'+'.join(rng.choice(pieces, rng.integers(2, 20)))})^{{{rng.integers(1, 99)}}}"
    yield from HOSTILE_RESPONSES[: 6 * n]


@pytest.mark.parametrize("n", [1, pytest.param(150, marks=pytest.mark.slow)])
def test_comparisons_never_raise_and_take_little_time(n):
    """Check this with texts as responses and as references."""
    rng = np.random.default_rng(n)
    by_kind = {kind: list(pairs) for kind, pairs in itertools.groupby(PAIRS, lambda pair: pair.kind)}
    assert by_kind.keys() == set(problem.KINDS)
    slowest = 0.0
    for text in _hostile_texts(rng, n):
        text = text[:2000]
        for kind, pairs in by_kind.items():
            pair, start = pairs[rng.integers(len(pairs))], time.process_time()
            assert COMPARISONS[kind](text, pair.reference, pair.choices) in (True, False, None)
            assert COMPARISONS[kind](pair.response, text, pair.choices) in (True, False, None)
            slowest = max(slowest, time.process_time() - start)
            assert answer_variants(text, kind=kind, choices=pair.choices, limit=4)[0] == text.strip()
            assert isinstance(vote_key(text, kind=kind, choices=pair.choices), str)
    # A fiftieth of the deadline of a worker is usual.
    assert slowest < 2.5


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
