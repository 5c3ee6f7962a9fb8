"""Answers in every notation, compared without algebra and without a worker."""

import pytest

from mig_jax.text.answers.identities import is_same_value
from mig_jax.text.answers.kinds import KINDS
from mig_jax.text.answers.parser import NotAFormula, Unreadable, parse_formula
from mig_jax.text.answers.structure import read
from tests.text.answers.answer_pairs import BANKS
from tests.text.answers.kept_pairs import KEPT
from tests.text.answers.notation_tables import CHOICES, EXPRESSIONS, OTHERS, rows


def wrong_verdicts(kind, table, choices=()):
    """Return the rows of a table that are graded wrongly, or not at once."""
    found = rows(table, newlines=kind in ("yes_no", "choice"))
    assert len(found) >= 7
    return [row for row in found if KINDS[kind].compare(row[0], row[1], choices) is not row[2]]


@pytest.mark.parametrize("notation", EXPRESSIONS)
def test_expressions(notation):
    assert wrong_verdicts("expression", EXPRESSIONS[notation]) == []


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds(kind):
    assert wrong_verdicts(kind, OTHERS[kind]) == []


def test_choices():
    assert wrong_verdicts("choice", CHOICES, BANKS) == []


@pytest.mark.parametrize("kind, choices", KEPT)
def test_pairs_that_have_always_been_right(kind, choices):
    found = rows(KEPT[kind, choices])
    undecided = [row for row in found if KINDS[kind].compare(row[0], row[1], choices) is None]
    assert all(r"\sum" in row[0] for row in undecided)  # takes a worker
    wrong = [
        row for row in found if row not in undecided and KINDS[kind].compare(row[0], row[1], choices) is not row[2]
    ]
    assert wrong == []


def test_right_answers_are_right_the_other_way_round():
    """A list, an interval or a formula equals another whichever of the two is the reference."""
    pairs = [row[:2] for table in EXPRESSIONS.values() for row in rows(table) if row[2]]
    one_way = [pair for pair in pairs if not KINDS["expression"].compare(pair[1], pair[0], ())]
    # An unevaluated product is no answer, but a possible reference; a reference in words names what is asked.
    assert len(one_way) < 0.06 * len(pairs), one_way


# Answers that a policy may try on any question.
UNIVERSAL = (
    *(
        "",
        "0=0",
        "1=1",
        "x=x",
        "x",
        "y",
        "a",
        "A",
        "n",
        "i",
        "e",
        "=",
        "=x",
        "_",
        ".",
        "-",
        "?",
        "*",
        "$",
        "$$",
        "{}",
        "()",
    ),
    *("[]", r"\{\}", r"\emptyset", r"\text{}", r"\boxed{}", r"\pi", r"\infty", r"-\infty<x<\infty", r"\mathbb{R}", "R"),
    *(
        r"x \in \mathbb{R}",
        "all reals",
        "all real numbers",
        "any",
        "anything",
        "none",
        "None",
        "N/A",
        "nan",
        "NaN",
        "inf",
    ),
    *(
        "undefined",
        "0/0",
        "1/0",
        r"\frac{0}{0}",
        "x/x",
        "x^0",
        r"\pm",
        "0<1",
        r"x\neq x",
        "f(x)",
        "true",
        "yes no",
        "same",
    ),
    *("the answer", "ABCD", "A,B,C,D", r"\ldots", r"\begin{cases}\end{cases}", r"\begin{pmatrix}\end{pmatrix}"),
)
REFERENCES = {
    "expression": (
        "5", "-3", "0.5", r"\frac{3}{4}", r"\sqrt{2}", r"2\pi", "x+1", "x^2-1", "(1,2)", "[0,1)", "x>2", "1<x<2",
        r"(-\infty,3)\cup(5,\infty)", r"\{1,2\}", "1,2", "x=3", "y=2x+1", "x^2+y^2=1", "x^2+1=0", "2+2=4", "3+4i",
        r"\begin{pmatrix}1\\2\end{pmatrix}", r"50\%", r"\$5", r"5\text{ cm}", "4210_7", "3:30 PM", "2:3", "TH",
        r"\text{east}", "no solution", "1/2^{55}", "a_n=n^2", r"30^\circ",
    ),
    "number": ("5", "12 apples"), "text": ("Paris",), "set": ("1, 2", "A, C"), "relaxed": ("100",), "integer": ("3",),
    "rounded": ("1.2",), "choice": ("Paris",), "yes_no": ("no",),
}  # fmt: skip


def test_no_answer_is_right_for_every_question():
    assert len(set(UNIVERSAL)) >= 55 and sum(map(len, REFERENCES.values())) >= 44
    paid = [
        (answer, reference, kind)
        for kind, references in REFERENCES.items()
        for reference in references
        for answer in UNIVERSAL
        if KINDS[kind].compare(answer, reference, ()) is not False
    ]
    assert paid == []


@pytest.mark.parametrize(
    "text", ["x+", "(1", r"\frac{1}", "2 7", "x y room", "12 and 13", "1,23", "\x00", "\ud800", "%", "5!!"]
)
def test_no_formula(text):
    with pytest.raises(NotAFormula):
        parse_formula(text)


@pytest.mark.parametrize("text", [r"\int_0^1 x dx", r"\sum_{k=1}^{n} k", r"\lim_{x\to0} x", r"\frac{dy}{dx}"])
def test_formula_that_takes_algebra(text):
    with pytest.raises(Unreadable):
        parse_formula(text)
    assert KINDS["expression"].compare(text, "7", ()) is None


def test_values_beyond_any_size_are_undecided():
    for text in ("9^{9^{9}}", "10^{99999}", "2000!", r"e^{9999}", r"\sin(10^{9999})"):
        with pytest.raises(Unreadable):
            is_same_value(parse_formula(text), parse_formula("7"))


def test_structure():
    assert read("1, 2") == read(r"\{1, 2\}") and read("(1, 2)") == read("(1; 2)")
    assert read(r"\begin{pmatrix}1\\2\end{pmatrix}").form == "column"
    assert read("1 < x < 2").operators == ("<", "<")
    assert [member.text for member in read(r"3 \pm 1").members] == ["3 + 1", "3 - 1"]
