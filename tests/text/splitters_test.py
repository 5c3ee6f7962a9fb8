"""Splitters: headers and their near misses, paragraphs, lines, sentences, and those of a user."""

import time

import pytest

from mig_jax.errors import UserError
from mig_jax.text.splitters import SPLITTERS, STEP_HEADERS, HeaderSplitter, find_splitter, split_sentences

READ = (
    "### Step 1: a",
    "### Step 1 : a",
    "#### Step 1: a",
    "## Step 1: a",
    "**Step 1:** a",
    "**Step 1**: a",
    "**Step 1: Title** a",
    "### **Step 1:** a",
    "__Step 1:__ a",
    "### Step 1\N{FULLWIDTH COLON}a",
    "   ### Step 1: a",
    "\t### Step 1: a",
    "### step 1: a",
    "### Step1: a",
    "Step 1: a",
    "### 步骤 1\N{FULLWIDTH COLON}a",
    "第一步\N{FULLWIDTH COLON}a",
    "### 第 2 步: a",
)
NEAR = (
    "### Step 1 a",
    "### Step 1. a",
    "### Step 1 - a",
    "### Step 1",
    "**Step 1** a",
    "Step 1. a",
    "Step 1) a",
    "Step 1",
    "Step 2 \N{EN DASH} a",
    "- Step 1: a",
    "1. **Step 1:** a",
    "> ### Step 1: a",
    "### Step one: a",
    "Step Two. a",
    "*Step 1:* a",
    "<b>Step 1:</b> a",
    "(Step 1) a",
    "Step #1: a",
    "Step II: a",
    "### Step 1a: a",
    "### Step \N{FULLWIDTH DIGIT ONE}: a",
    "### Step: a",
    "### Étape 1 : a",
    "### 1. a",
    "步骤1、a",
    "Add. ### Step 1: a",
    "Add. **Step 1:** a",
)
TEXT = (
    "### Stepwise: a",
    "### Step 1.1: a",
    "Step by step: a",
    "In step 1: a",
    "Steps 1: a",
    "step 1 gave 5",
    "### Steps",
    "### Note: a",
    "### 3 + 4 = 7",
    "#3: a",
    "**Result 2:** 5",
    "(2) a",
    "Step I took",
)


def texts(splitter, text):
    return [text[start:end] for start, end in splitter(text)]


@pytest.mark.parametrize("line", READ)
def test_near_misses_that_are_read(line):
    assert texts(STEP_HEADERS, f"plan\n{line}\nmore\n") == [f"{line.lstrip()}\nmore\n"]
    assert not list(STEP_HEADERS.near_misses(line))


@pytest.mark.parametrize("line", NEAR)
def test_near_misses_that_are_not_read_are_found(line):
    assert not STEP_HEADERS(line) and len(list(STEP_HEADERS.near_misses(f"plan\n{line}\nmore"))) == 1


@pytest.mark.parametrize("line", TEXT)
def test_text_is_no_header(line):
    assert not STEP_HEADERS(line) and not list(STEP_HEADERS.near_misses(f"plan\n{line}\nmore"))


def test_header_without_text_begins_no_step():
    assert texts(STEP_HEADERS, "### Step 1:\n### Step 2: b") == ["### Step 2: b"]
    assert STEP_HEADERS.without_headers("**Step 1:** 5\n#### Step 12: 7") == " 5\n 7"
    assert STEP_HEADERS.without_number("### Step 1: 5", 1) == "5"
    assert STEP_HEADERS.without_number("### Step 11: 5", 1) == "### Step 11: 5"


def test_paragraphs_and_lines():
    assert texts(SPLITTERS["paragraph"], "a\nb\n\n c\n \t\n\nd\n") == ["a\nb", " c", "d\n"]
    assert texts(SPLITTERS["line"], "a\n\n b\r\nc") == ["a", " b\r", "c"]


def test_sentences():
    text = (
        'We have e.g. 3.5 apples. Mr. Smith has 2! Is it so? "Yes." Then 1. a\n1. First add. Initials A. B. stay.\n'
        "你好。再见\N{FULLWIDTH EXCLAMATION MARK}So x = 5"
    )
    assert [sentence.strip() for sentence in texts(split_sentences, text)] == [
        "We have e.g. 3.5 apples.",
        "Mr. Smith has 2!",
        "Is it so?",
        '"Yes."',
        "Then 1. a",
        "1. First add.",
        "Initials A. B. stay.",
        "你好。",
        "再见\N{FULLWIDTH EXCLAMATION MARK}",
        "So x = 5",
    ]


def test_find_splitter(tmp_path):
    assert find_splitter("paragraph", key="--steps") is SPLITTERS["paragraph"]
    assert texts(find_splitter(r"^\(\w\)", key="--steps"), "(a) one\n(b) two") == ["(a) one\n", "(b) two"]
    assert find_splitter(r"^Step \d+:", key="--steps") == HeaderSplitter(r"^Step \d+:")
    file = tmp_path / "mine.py"
    file.write_text("def halves(text):\n    return [(0, len(text) // 2), (len(text) // 2, len(text))]\n")
    assert texts(find_splitter(f"{file}:halves", key="--steps"), "abcd") == ["ab", "cd"]


@pytest.mark.parametrize(
    "source, error",
    [
        ("def split(text):\n    return [text]\n", r"fails for .*mine.py|fails for"),
        ("def split(text):\n    return [(5, 0), (0, 5)]\n", "in order"),
        ("def split():\n    return []\n", "must take"),
        ("split = 3\n", "must be a function"),
    ],
)
def test_functions_that_cannot_split(source, error, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(UserError, match=error):
        find_splitter(f"{file}:split", key="--steps")


@pytest.mark.parametrize("spec, error", [("(", "not a regular expression"), ("a*", "matches an empty text")])
def test_patterns_that_cannot_split(spec, error):
    with pytest.raises(UserError, match=f"--steps={spec[0]}?.*{error}" if spec != "(" else error):
        find_splitter(spec, key="--steps")


def test_time_is_linear_in_the_length():
    pieces = (
        " ",
        "\t",
        "#",
        "*",
        "- ",
        "### Step 1",
        "Step ",
        "步骤 ",
        "1. ",
        ". ",
        "A. ",
        "e.g. ",
        "。",
        "\n",
        " \n",
        "**",
    )

    def seconds(n):
        start = time.process_time()
        for piece in pieces:
            text = piece * (n // len(piece))
            for splitter in SPLITTERS.values():
                splitter(f"\n{text}x")
            list(STEP_HEADERS.near_misses(f"\n{text}x"))
        return time.process_time() - start

    # A quadratic one would take 256 times as long.
    assert seconds(160_000) < 100 * max(seconds(10_000), 0.005)
