"""The kinds of answers in one table, and kinds of the user's own."""

import dataclasses

import pytest

from mig_jax import parts
from mig_jax.data import problem
from mig_jax.errors import UserError
from mig_jax.text.answers.kinds import KINDS, AnswerKind, find_kind
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.variants import answer_variants
from mig_jax.text.answers.verifier import AnswerPair, Grade, Verifier
from mig_jax.text.answers.votes import vote_key

OWN = """
import time
from mig_jax.text.answers.kinds import AnswerKind

def same_words(response, reference, choices=()):
    if response == "hang":
        time.sleep(60)
    return sorted(response.split()) == sorted({"crash": None}.get(response, reference).split())

WORDS = AnswerKind(same_words, spell=lambda reference, choices: [" ".join(reversed(reference.split()))],
                   vote=lambda answer, choices: " ".join(sorted(answer.split())))
broken = lambda response, reference, choices: 1 / 0
number = 3
no_arguments = lambda: True
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "my_kinds.py").write_text(OWN)
    return f"{tmp_path}/my_kinds.py"


def test_kinds_match_those_of_problems():
    assert tuple(KINDS) == problem.KINDS
    for kind in KINDS.values():
        assert (kind.check is None) == (kind.check_reference is None)


def test_own_kind_from_outside(own):
    kind = f"{own}:WORDS"
    responses = ["b a", "a c", "hang", "crash", None]
    with Verifier(workers=1, deadline_s=2.0) as verifier:
        grades = verifier.grade([AnswerPair(response, "a b", kind) for response in responses])
    assert grades == [Grade(True), Grade(False), Grade(False, timed_out=True), Grade(False), Grade(False)]
    assert answer_variants("a b", kind=kind, limit=4) == ("a b", "b a")
    assert vote_key("b a", kind=kind) == "a b"
    assert extract_lenient_answer(r"So \boxed{b a}.", kind=kind) == "b a"
    assert extract_lenient_answer("The answer is b a.", kind=f"{own}:same_words") == "b a"


def test_own_kind_that_fails_on_its_reference_ends_the_run(own):
    with Verifier(workers=1) as verifier:
        with pytest.raises(UserError, match=r"reference 'a': .*:broken: .*my_kinds.py:\d+: ZeroDivisionError"):
            verifier.grade([AnswerPair("a", "a", f"{own}:broken")])
        with pytest.raises(UserError, match="has no 'WORD'"):
            verifier.grade([AnswerPair("a", "a", f"{own}:WORD")])


@pytest.mark.parametrize(
    "name, error",
    [
        ("number", "is a int; must be an AnswerKind, or a function that compares"),
        ("no_arguments", r"its function `compare` must take \(response, reference, choices\)"),
    ],
)
def test_own_kind_of_a_wrong_form(own, name, error):
    with pytest.raises(UserError, match=error):
        find_kind(f"{own}:{name}")


def test_constant_column_names_the_file_of_an_own_kind(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parts.absolute_spec("=my_kinds.py:WORDS") == f"={own}:WORDS"
    assert parts.files_of({"kind": f"={own}:WORDS"}) == [tmp_path / "my_kinds.py"]


def test_kind_without_options():
    kind = AnswerKind(lambda response, reference, choices: True)
    assert [field.name for field in dataclasses.fields(kind) if getattr(kind, field.name)] == ["compare"]
