"""Variants of reference answers."""

import numpy as np
import pytest

from mig_jax.text.answers import verifier
from mig_jax.text.answers.compare import COMPARISONS
from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.variants import answer_variants
from tests.text.answers.answer_pairs import BANKS, PAIRS
from tests.text.answers.bodies import make_references

# Formulas and the other ways to write them, likely ones first.
VARIANTS = {
    "1/2": [r"\frac{1}{2}", "0.5"],
    "0.5": ["1/2", r"\frac{1}{2}"],
    "-0.5": ["-1/2", r"-\frac{1}{2}"],
    r"-\dfrac{3}{8}": [r"-\frac{3}{8}", "-3/8", "-0.375"],
    r"\frac{243}{625}": ["243/625", "0.3888", r"\dfrac{243}{625}"],
    "2/4": [r"\frac{1}{2}", "0.5", "1/2"],
    "1/3": [r"\frac{1}{3}"],
    r"3\frac{1}{2}": ["3.5", "7/2", r"\frac{7}{2}", r"3\dfrac{1}{2}"],
    "3.14": [],
    "3.14159": [],
    "2.50": ["2.5", "5/2", r"\frac{5}{2}"],
    r"50\%": ["50%", "50", "0.5"],
    r"44\%": ["44%", "44", "0.44"],
    "12.5%": ["12.5", r"12.5\%", "0.125"],
    r"\$40": ["$40", "40"],
    r"\$18.90": ["$18.90", "18.90", "$18.9", "18.9"],
    r"45^\circ": ["45°", "45", "45 degrees"],
    r"5\text{ cm}": ["5 cm", r"5 \text{ cm}", "5"],
    "+7": ["7"],
    "5.0": ["5"],
    "0": [],
    "1234567": ["1,234,567"],
    "-1,234": ["-1234"],
    r"10{,}000": ["10,000", "10000"],
    r"1.5 \times 10^3": ["1500", "1,500"],
    "4210_7": ["4210_{7}"],
    "x = 5": ["5"],
    "y=1/4": ["1/4", r"\frac{1}{4}", "0.25"],
    "y=2x+3": ["y = 2x + 3", "2x+3", "2x + 3"],
    r"\text{A}": ["A"],
    "$5$": ["5"],
    r" \( \boxed{\tfrac{\pi}{4}} \) ": [r"\frac{\pi}{4}", r"\pi/4", "π/4", r"\dfrac{\pi}{4}"],
    r"\frac{3\sqrt{3}}{2}": [r"3\sqrt{3}/2", "3√3/2", r"\dfrac{3\sqrt{3}}{2}"],
    r"\frac{x+1}{2}": [r"\frac{x + 1}{2}", r"\dfrac{x+1}{2}"],
    r"2\sqrt3": [r"2\sqrt{3}", "2√3"],
    r"25\pi": ["25π"],
    r"36\pi\text{ cm}^2": [r"36π\text{ cm}^2", r"36\pi", "36π"],
    "3+4i": ["3 + 4i"],
    r"\left(1, 2\right)": ["(1, 2)"],
    "(1,2)": ["(1, 2)"],
    "1,2": ["1, 2"],
    r"\pm 2": ["±2", "2, -2"],
    r"[0,1)\cup(2,\infty)": [r"[0, 1) \cup (2, \infty)", "[0, 1) ∪ (2, ∞)"],
    r"\begin{pmatrix}1\\2\end{pmatrix}": [r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"],
    "Paris": [],
    "x^2+1": ["x^2 + 1"],
}


@pytest.mark.parametrize("reference", VARIANTS)
def test_variants(reference):
    variants = answer_variants(reference, kind="expression", limit=8)
    assert list(variants) == [reference.strip(), *VARIANTS[reference]]
    assert answer_variants(reference, kind="expression", limit=2) == variants[:2]
    for variant in variants:
        assert is_same_math(variant, reference) is True
        assert is_same_math(reference, variant) is True


@pytest.mark.parametrize(
    "kind, reference, variants",
    [
        ("number", "$1,200", ["$1200", "1200", "1,200"]),
        ("number", "12 apples", ["12"]),
        ("number", "5 kg", ["5"]),
        ("number", "1 1/2", ["1.5", "3/2", r"\frac{3}{2}"]),
        ("number", "50%", ["50", r"50\%", "0.5"]),
        ("choice", "B", ["B. bank", "bank", "(B)"]),
        ("choice", "(b)", ["B", "B. bank", "bank", "(B)"]),
        ("nearest_choice", "C", ["C. a boat", "a boat", "(C)"]),
        ("yes_no", "Yes", ["yes"]),
        ("yes_no", "no", ["No"]),
        ("yes_no", "TRUE", ["True", "true"]),
        ("set", "1, -2", [r"\{1, -2\}", "{1, -2}"]),
        ("set", r"\{1,2\}", ["1, 2", r"\{1, 2\}", "{1, 2}"]),
        ("set", r"\pm 2", ["2, -2", r"\{2, -2\}", "{2, -2}"]),
        ("set", "AC", ["A, C", r"\{AC\}", "{AC}"]),
        ("set", "C, A", ["A, C", "AC", r"\{C, A\}", "{C, A}"]),
        ("text", " New York ", ["new york"]),
        ("text", r"\text{red}.", ["red", "Red"]),
        ("relaxed", "50%", ["0.5"]),
        ("relaxed", "0.50", ["0.5", "50%"]),
        ("relaxed", "12.3%", ["0.123"]),
        ("relaxed", "-1200.0", ["-1200"]),
        ("relaxed", "7", ["7.0"]),
        ("relaxed", "south Asia", ["South Asia", "south asia"]),
        ("relaxed", "nan", []),
        ("integer", "1400", ["1400.0"]),
        ("integer", "-3", ["-3.0"]),
        ("integer", "07", []),
        ("rounded", "0.50", ["0.5", "0.500"]),
        ("rounded", "-2.0", ["-2", "-2.00"]),
        ("rounded", "3", ["3.0"]),
        ("reasoning_gym", "0.5", []),
    ],
)
def test_variants_by_kind(kind, reference, variants):
    choices = BANKS if "choice" in kind else ()
    first = reference.strip()
    assert list(answer_variants(reference, kind=kind, choices=choices, limit=8)) == [first, *variants]
    assert list(answer_variants(reference, kind=kind, choices=choices, limit=1)) == [first]


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


REFERENCES = {(pair.reference, pair.kind, pair.choices) for pair in PAIRS if pair.kind != "reasoning_gym"}


@pytest.mark.parametrize("n_made", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_every_variant_is_right(n_made):
    """Check this without a worker, for the references of the table and generated ones, and all their variants."""
    made = {(of.answer, of.kind, of.choices) for of in make_references(n_made, np.random.default_rng(1))}
    n_variants = 0
    for reference, kind, choices in made if n_made > 100 else made | REFERENCES:
        variants = answer_variants(reference, kind=kind, choices=choices, limit=9)
        for variant in variants:
            assert COMPARISONS[kind](variant, reference, choices) is True, (variant, reference, kind)
            if kind in ("number", "expression", "set", "text", "yes_no"):
                assert COMPARISONS[kind](reference, variant, choices) is True, (reference, variant, kind)
        n_variants += len(variants)
    assert n_variants > 2 * n_made
