"""Lenient extraction of answers from completions in any format."""

import numpy as np
import pytest

from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import KINDS, AnswerPair, Grade, Verifier
from tests.text.answers.answer_pairs import BANKS, HOSTILE_RESPONSES
from tests.text.hostile import hostile_completions


@pytest.mark.parametrize(
    "completion, answer",
    [
        ("<think>\n### Step 1: 41\n</think>\n<answer>42</answer>", "42"),
        ("<answer>41</answer> No: <answer> 42 </answer>", "42"),
        ("<answer>42", "42"),
        ("<answer>42</answer><answer> </answer> 7", "42"),
        ("<answer>41<answer>42</answer>", "42"),
        (r"\boxed{41} <answer>42</answer>", "42"),
        (r"<answer>\boxed{42}</answer> 7", r"\boxed{42}"),
        (r"So \boxed{\frac{1}{2}}. Step 7.", r"\frac{1}{2}"),
        (r"\boxed{1}, then \boxed{2} and {3}", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ 1, 2 \right.} }", r"\left\{ 1, 2 \right."),
        (r"\boxed {5} 6", "5"),
        (r"\\boxed{5} 6", "5"),
        (r"\boxed{ } 7", "7"),
        (r"\boxed{3 and \boxed{4} and", "4"),
        (r"\boxed{3 and 4", "4"),
        (r"} 8 \boxed{5}", "5"),
        ("<answer></answer>", None),
        ("", None),
        (" \n", None),
    ],
)
def test_blocks_and_boxes(completion, answer):
    assert extract_lenient_answer(completion, kind="number") == answer


@pytest.mark.parametrize(
    "kind, completion, answer",
    [
        ("number", "3 apples and 4 pears are 7.", "7"),
        ("number", "The total is $1,200.50!", "1,200.50"),
        ("number", "it falls by -3", "-3"),
        ("number", "it falls by \N{MINUS SIGN}3.5°", "-3.5"),
        ("number", "as 10-3", "3"),
        ("number", "x=-3", "-3"),
        ("number", "which is 3/4.", "3/4"),
        ("number", "which is 1 1/2 cups", "1 1/2 cups"),
        ("number", r"which is $-\frac{3}{4}$", r"-\frac{3}{4}"),
        ("number", "which is 50 %.", "50%"),
        ("number", "which is 1.5e3 of them", "1.5e3"),
        ("number", "is .5", ".5"),
        ("number", "H2O and x_1 and nothing else", None),
        ("number", "none", None),
        ("expression", "so x = 42", "x = 42"),
        ("relaxed", "It grew by 1,200", "1200"),
        ("relaxed", "It grew by 5%", "5%"),
        ("relaxed", "It grew", None),
        ("integer", "There are 1,400.", "1400"),
        ("integer", "50%", "50"),
        ("rounded", "about -1.25 cm", "-1.25"),
        ("yes_no", "Yes, it is red. So the answer is no.", "no"),
        ("yes_no", "TRUE", "TRUE"),
        # The first word is the answer; the following words do not matter.
        ("yes_no", "Yes, there is no red bicycle", "Yes"),
        ("yes_no", "No, the statement isn't true.", "No"),
        ("yes_no", "Yes. No other object is red.", "Yes"),
        ("yes_no", "**Yes**\n\nNo other object is red.\n", "Yes"),
        ("yes_no", "It is false that there is one.\n- No: none is true.\n", "No"),
        ("yes_no", "No it is not true", "No"),
        ("yes_no", "Yes or no? True or false? I say no", "no"),
        ("yes_no", "No cube is red, so yes", "yes"),
        ("yes_no", "No-one is there, which is true", "true"),
        ("yes_no", "Answer: **No**, as none is red. This is true.", "No"),
        ("yes_no", "The answer is yes. Wait, the answer is: no. True.", "no"),
        ("yes_no", "Yes, it is. The answer is in the picture", "Yes"),
        ("yes_no", "I know nothing of yesterday", None),
        ("text", "The answer is Paris.", "Paris"),
        ("text", "The answer is Rome. No, the answer is Paris.", "Paris"),
        ("text", "The answer is not clear.\nFinal answer: **New York**\nBecause.", "New York"),
        ("text", "**Answer:** Paris", "Paris"),
        ("text", "**Answer**:\n\nParis", "Paris"),
        ("text", "Answer：北京", "北京"),
        ("text", "the answer is", None),
        ("text", "Paris", "Paris"),
        ("set", "The answer is {1, 2}.", "{1, 2}"),
        ("set", "ANSWER: A, C\n", "A, C"),
        ("reasoning_gym", "Answer: -128", "-128"),
    ],
)
def test_by_kind(kind, completion, answer):
    assert extract_lenient_answer(completion, kind=kind) == answer


@pytest.mark.parametrize(
    "completion, letter",
    [
        ("The answer is B.", "B"),
        ("the answer is (b) bank", "B"),
        ("The answer is **B**, not A.", "B"),
        ("The answer is: $B$", "B"),
        (r"The answer is $\text{B}$.", "B"),
        ("The correct answer is option B", "B"),
        ("**Answer:** B. bank", "B"),
        ("**Answer**: (B)", "B"),
        ("Answer:\nB", "B"),
        ("The answer is A. Wait, the answer is C", "C"),
        ("The answer is clear from A: it must be (B)", "B"),
        ("Either (A) or (B)", None),
        ("so I choose [B]", "B"),
        ("so **B. bank** it is", "B"),
        ("I choose B", "B"),
        ("B.", "B"),
        ("(C) is wrong, I choose B.\n", "B"),
        # Texts of choices.
        ("The answer is bank.", "B"),
        ("Answer: bank", "B"),
        ("Answer:\n**The sea**\n\nIt is wide.", "D"),
        ("I would choose **bank**.", "B"),
        ("**river** is wrong, I would choose **bank**, where money is.", "B"),
        ("The answer is **bank**, where a **river** is not.", "B"),
        ("bank", "B"),
        ("river?\nNo:\n$\\text{Bank}$.\n", "B"),
        ("B. bank", "B"),
        ("b", "B"),
        ("The answer is A boat.", "C"),
        ("The answer is B, not a **river**", "B"),
        # Letters and texts that name no choice.
        ("The answer is E", None),
        ("The answer is A's", None),
        ("The answer is Apple", None),
        ("I say bank", None),
        ("river, bank", None),
        ("**river bank**", None),
        ("A. bank", None),
        ("f(x) = **X**", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("kind", ["choice", "nearest_choice"])
def test_choices(kind, completion, letter):
    assert extract_lenient_answer(completion, kind=kind, choices=BANKS) == letter


def test_text_of_two_choices_names_neither():
    choices = ("15", "50", "50")
    assert [extract_lenient_answer(f"Answer: {n}", kind="choice", choices=choices) for n in (15, 50)] == ["A", None]
    assert extract_lenient_answer("Answer: bank", kind="choice") is None


def test_without_choices_every_letter_counts():
    assert extract_lenient_answer("The answer is J", kind="choice") == "J"


def test_extracted_answers_are_graded_right():
    """Check this for completions without an answer block."""
    pairs = [
        AnswerPair(extract_lenient_answer(text, kind=kind, choices=choices), reference, kind, choices)
        for text, reference, kind, choices in [
            ("It costs $1,200.", "1200", "number", ()),
            (r"Hence \boxed{\frac{1}{2}}", "0.5", "expression", ()),
            ("The answer is: **(C)**", "C", "choice", BANKS),
            ("I would choose **a boat**.", "C", "choice", BANKS),
            ("Answer: the sea", "D", "nearest_choice", BANKS),
            ("So no.", "No", "yes_no", ()),
            ("Yes, there is no red bicycle", "yes", "yes_no", ()),
            ("The answer is **Paris**.", "paris", "text", ()),
            ("Answer: 2 and 1", "{1, 2}", "set", ()),
            ("About 1,020 in all.", "1000", "relaxed", ()),
            ("1,400 of them", "1400", "integer", ()),
            ("It is 1.24 m long.", "1.2", "rounded", ()),
            ("I take **D**", "D", "nearest_choice", BANKS),
        ]
    ]
    with Verifier(workers=1) as verifier:
        assert verifier.grade(pairs) == [Grade(True)] * len(pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_extraction_never_raises(kind):
    rng = np.random.default_rng(0)
    found = 0
    for text in (*hostile_completions(rng, 1000), *HOSTILE_RESPONSES):
        answer = extract_lenient_answer(text, kind=kind, choices=BANKS)
        assert answer is None or (answer and answer == answer.strip())
        found += answer is not None
    assert found > 100


def test_time_is_linear_in_the_length():
    """Check texts for which quadratic time would mean hours."""
    pieces = [
        "<answer>",
        "<answer>x</answer>",
        r"\boxed{",
        r"\boxed{ ",
        "{",
        "1",
        "1 ",
        "1,111",
        "1/",
        ".",
        r"\frac{1}{",
    ]
    pieces += [
        "**A ",
        "**A.",
        "A ",
        "(A",
        "(A)",
        "answer is ",
        "answer:\n",
        "answer is (",
        "answer is bank",
        "**bank** ",
        "**bank",
        "- ",
        "no-",
        "answer * * ",
        "yes",
        " ",
        "A\n",
    ]
    for piece in pieces:
        text = piece * (50_000 // len(piece))
        for completion in (text, text + "}" * 5_000, "answer is" + text):
            for kind in ("number", "choice", "yes_no", "text"):
                extract_lenient_answer(completion, kind=kind, choices=BANKS)
