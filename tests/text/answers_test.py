"""Spellings of an answer, and comparing two of them without algebra."""

import subprocess
import sys

import pytest

from mig_jax.text.answers import answer_variants, is_same_choice, is_same_math, is_same_text, normalize

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
    variants = answer_variants(reference, limit=8)
    assert list(variants) == VARIANTS[reference]
    assert answer_variants(reference, limit=2) == variants[:2]
    for variant in variants:
        assert is_same_math(variant, reference) is True
        assert is_same_math(reference, variant) is True


@pytest.mark.parametrize(
    "answer, plain",
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
        ("", ""),
    ],
)
def test_normalize(answer, plain):
    assert normalize(answer) == plain
    assert normalize(plain) == plain


@pytest.mark.parametrize(
    "response, reference, verdict",
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
        ("$1$$2$", "12", False),
        ("1/0", "1/0 ", True),
        ("1/0", "0", None),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("x=5", "x = 5.0", True),
        ("x=5", "y=5", None),
        ("2x+1", "y = 2x+1", True),
        # Words are words, not products of letters.
        ("Paris", "paris", True),
        ("pairs", "Paris", False),
        ("York New", "New York", False),
        ("ba", "ab", None),
        # Repeating the question is no answer.
        ("3*4+2", "14", False),
        (r"3 \times 4", "12", False),
        ("(1+1)(1+6)", "14", False),
        ("(2)(7)", "14", False),
        ("2 7", "14", False),
        (r"2^{3}", "8", None),
        ("14+0", "14", False),
        ("3*4+2=14", "14", None),
        (r"1.4 \times 10^1", "14", None),
        ("-14", "14", False),
        ("x^{-2}", "14", None),
        ("1+x", "x+1", None),
        # Numbers that would take for ever to be written out, or as long as a book.
        ("1e999999999", "7", None),
        ("1e999", "7", False),
        ("9" * 2000, "7", None),
    ],
)
def test_without_algebra(response, reference, verdict):
    assert is_same_math(response, reference) is verdict


@pytest.mark.parametrize(
    "response", ["B", "b", " B ", "(B)", "B.", "B)", "(b).", r"\text{B}", "**B**", "$B$.", "B. Paris", "B) 4"]
)
def test_same_choice(response):
    assert is_same_choice(response, "B")
    assert is_same_choice(response, r"\text{(B)}")
    assert not is_same_choice(response, "C")


@pytest.mark.parametrize("response", ["", "A or B", "AB", "Because", "A, B", "not B", "Paris", "8"])
def test_no_choice(response):
    assert not is_same_choice(response, "B")


def test_same_text():
    assert is_same_text(" New\n york", "New  York ")
    assert is_same_choice("paris", "Paris")
    assert not is_same_text("NewYork", "New York")


def test_text_modules_start_fast():
    """Workers import them, so they must not drag in what takes seconds."""
    code = (
        "import sys\n"
        "from mig_jax.text import answers, response_format, tokenizer, verifier, worker\n"
        "slow = {'jax', 'transformers', 'tokenizers', 'sympy', 'math_verify', 'reasoning_gym'}\n"
        "print(*slow.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")
