"""Text benchmarks: rows as published, and the problems and errors they give."""

import io
import json
import shutil
import tarfile
import zipfile

import pytest
from PIL import Image

from mig_jax.data import builders
from mig_jax.data.builders.benchmark import BenchmarkError
from mig_jax.data.problem import KINDS, Problem

TEXT_BENCHMARKS = (
    "gsm8k", "math", "svamp", "asdiv", "commonsense_qa", "scq5k_en", "aime_2025", "cmm_math",
)  # fmt: skip


@pytest.fixture
def build(tmp_path):
    """A function that writes the published files of a benchmark, builds a split and returns its problems by id."""

    def build_split(name, files, split=""):
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        problems = builders.open_benchmark(name, split=split, data_dir=tmp_path)
        assert {problem.source for problem in problems} <= {name} and {problem.kind for problem in problems} <= set(
            KINDS
        )
        return {problem.id: problem._replace(source="") for problem in problems}

    return build_split


def _lines(*rows) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def _errors(build, *arguments) -> list[str]:
    with pytest.raises(BenchmarkError) as caught:
        build(*arguments)
    return str(caught.value).split("\n  ")[1:]


@pytest.mark.parametrize("name", TEXT_BENCHMARKS)
def test_benchmark_names_the_addresses_of_its_files(name):
    builder = builders.get_builder(name)
    assert builder.name == name and builder.EVAL_SPLIT in builder.FILES
    files = {file for split in builder.FILES for file in builder.FILES[split]} | set(builder.ARCHIVES)
    assert set(builder.URLS) == files
    assert all(url.startswith("https://") for url in (builder.HOMEPAGE, *builder.URLS.values()))
    assert builder.LICENSE and ("A row: " in builder.__doc__ or name == "math")


def test_gsm8k(build):
    rows = [
        {
            "question": "How many?",
            "answer": "48/2 = <<48/2=24>>24 in May.\n\n48+24 = <<48+24=72>>72 \u2014 both.\n#### 1,072",
        },
        "",
        {"question": "How much?", "answer": "It loses 5.\n#### -5 "},
    ]
    assert build("gsm8k", {"test.jsonl": _lines(*rows)}) == {
        "test/1": Problem(
            "test/1", "How many?", "1,072", "number", (("48/2 = 24 in May.", "48+24 = 72 \u2014 both."), "1,072")
        ),
        "test/3": Problem("test/3", "How much?", "-5", "number", (("It loses 5.",), "-5")),
    }


def test_gsm8k_errors(build):
    rows = [{"question": "How many?", "answer": "72"}, {"question": "How many?", "answer": "So 72.\n#### "}]
    expected = [f"train.jsonl, row {n}: answer has no last line '#### <number>'" for n in (1, 2)]
    assert _errors(build, "gsm8k", {"train.jsonl": _lines(*rows)}, "train") == expected


# ------------------------------------------------------------------------------------------------------------- MATH

# As published, and as evalscope 1.14.1 quotes it of math_500, but for the drawing, which is shorter.
TRIANGLE = {
    "problem": "Suppose $\\sin D = 0.7$ in the diagram below. What is $DE$? [asy]\npair D,E,F;\n[/asy]",
    "level": "Level 1",
    "type": "Precalculus",
    "solution": "The triangle is a right triangle, so $\\sin D = \\frac{EF}{DF}$. Then we have that $\\sin D = 0.7 = "
    "\\frac{7}{DF}$, so $DF = 10$.\n\nUsing the Pythagorean Theorem, we find that the length of $DE$ is "
    "$\\sqrt{DF^2 - EF^2},$ or $\\sqrt{100 - 49} = \\boxed{\\sqrt{51}}$.",
}


def _math(solution: str, **changed) -> dict:
    return {"problem": "What is $x$?", "level": "Level 5", "type": "Algebra", "solution": solution} | changed


def _tar(files) -> bytes:
    """MATH.tar with these files, and with a problem in each split."""
    file = io.BytesIO()
    others = {f"MATH/{split}/algebra/0.json": _math("$\\boxed{0}$") for split in ("train", "test")}
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (others | files).items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def test_math(build):
    steps = (
        "The triangle is a right triangle, so $\\sin D = \\frac{EF}{DF}$.",
        "Then we have that $\\sin D = 0.7 = \\frac{7}{DF}$, so $DF = 10$.",
        "Using the Pythagorean Theorem, we find that the length of $DE$ is $\\sqrt{DF^2 - EF^2},$ or "
        "$\\sqrt{100 - 49} = \\sqrt{51}$.",
    )
    problems = build("math", {"MATH.tar": _tar({"MATH/test/precalculus/1303.json": TRIANGLE})})
    assert sorted(problems) == ["test/algebra/0.json", "test/precalculus/1303.json"]
    assert problems["test/precalculus/1303.json"] == Problem(
        id="test/precalculus/1303.json",
        question=TRIANGLE["problem"],
        answer="\\sqrt{51}",
        kind="expression",
        solution=(steps, "\\sqrt{51}"),
        level="Level 1",
        subject="Precalculus",
    )


@pytest.mark.parametrize(
    "solution, answer",
    [
        ("So $x = \\boxed{\\frac{1}{\\sqrt{2}}}$, or $\\boxed{\\left\\{ \\frac{1}{2}, -3 \\right\\}}$.",
         r"\left\{ \frac{1}{2}, -3 \right\}"),
        ("Thus $x = \\fbox{-\\frac{43}{9}}$", r"-\frac{43}{9}"),
        ("Thus $x = \\boxed 2$.", "2"),
        ("Thus \\boxed{ \\text{(C)} }.", r"\text{(C)}"),
        ("\\[f(x) = \\boxed{\\left\\{ \\begin{array}{cl} 0 & x < 0 \\\\ 1 & x \\ge 0 \\end{array} \\right.}\\]",
         r"\left\{ \begin{array}{cl} 0 & x < 0 \\ 1 & x \ge 0 \end{array} \right."),
        ("It costs \\boxed{\\$32,\\!348}.", r"\$32,\!348"),
    ],
)  # fmt: skip
def test_math_answer_is_in_the_last_box(build, solution, answer):
    archive = _tar({"MATH/train/algebra/1.json": _math(solution)})
    problem = build("math", {"MATH.tar": archive}, "train")["train/algebra/1.json"]
    assert problem.answer == answer
    assert not any("box" in step for step in problem.solution[0])


@pytest.mark.parametrize(
    "solution, steps",
    [
        ("It is $\\boxed{2}$", ("It is $2$",)),
        ("See e.g. this. So\n$$x = 3.$$Thus\n\\[y. Then z.\\]\nis $\\boxed{2}$.",
         ("See e.g. this.", "So $$x = 3.$$", "Thus \\[y. Then z.\\] is $2$.")),
        ("It costs \\$5. Two are \\$10. Hence $\\boxed{10}$.", ("It costs \\$5.", "Two are \\$10.", "Hence $10$.")),
        ("Draw:\n\n[asy]\nlabel(\"$A. B$\"); // Draw. It.\n[/asy]\n\nIs it $A. B$?  Yes! $\\boxed{2}$",
         ("Draw:", "Is it $A. B$?", "Yes!", "$2$")),
        ("We get\n\\begin{align*}\nx &= 1. \\\\\nY &= 2.\n\\end{align*}\nSo $\\boxed{2}$.",
         ("We get \\begin{align*} x &= 1. \\\\ Y &= 2. \\end{align*} So $2$.",)),
    ],
)  # fmt: skip
def test_math_solution_is_split_into_sentences(build, solution, steps):
    archive = _tar({"MATH/train/algebra/1.json": _math(solution)})
    problem = build("math", {"MATH.tar": archive}, "train")["train/algebra/1.json"]
    assert problem.solution[0] == steps


def test_math_opens_zipped_or_unpacked(build, tmp_path):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for place in ("train/geometry/7", "test/geometry/8"):
            archive.writestr(f"MATH/{place}.json", json.dumps(_math(f"$\\boxed{{{place[-1]}}}$")))
            archive.writestr(f"__MACOSX/MATH/{place[:-1]}._{place[-1]}.json", b"\x00")
        archive.writestr("MATH/README", b"no problem")
    assert [problem.answer for problem in build("math", {"MATH.zip": zipped.getvalue()}, "train").values()] == ["7"]
    shutil.rmtree(tmp_path / "math")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "math")
    assert list(build("math", {}, "test")) == ["test/geometry/8.json"]


def test_math_errors(build):
    published = {
        "MATH/test/algebra/1.json": _math("No box."),
        "MATH/test/algebra/2.json": _math("$\\boxed{}$"),
        "MATH/test/algebra/3.json": _math("Never closed: $\\boxed{1$"),
        "MATH/test/algebra/4.json": b"{torn",
        "MATH/test/algebra/5.json": [],
        "MATH/test/algebra/6.json": _math("$\\boxed{1}$", level=None),
    }
    errors = _errors(build, "math", {"MATH.tar": _tar(published)}, "test")
    assert errors[:3] == [rf"MATH.tar, test/algebra/{n}.json: solution has no \boxed{{answer}}" for n in (1, 2, 3)]
    assert errors[3].startswith("MATH.tar, test/algebra/4.json: not JSON")
    assert errors[4:] == [
        "MATH.tar, test/algebra/5.json: a list, not an object",
        "MATH.tar, test/algebra/6.json: level is empty",
    ]


def test_math_damaged_archive(build):
    with pytest.raises(ValueError, match="MATH.tar: not a tar or zip file, or a damaged one"):
        build("math", {"MATH.tar": b"<html>404</html>" * 99}, "train")


# ----------------------------------------------------------------------------------------------------- word problems


def test_svamp(build):
    rows = [
        {
            "ID": "chal-1",
            "Body": "Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack",
            "Question": "How much do you have to pay to buy each pack?",
            "Equation": "( 76.0 - 25.0 )",
            "Answer": 51.0,
            "Type": "Subtraction",
        },
        {"ID": "chal-2", "Body": "He had $ 3.", "Question": "And now?", "Answer": 1.5, "Type": "Common-Division"},
        {"ID": "chal-3", "Body": "It is 2 degrees. ", "Question": "And now?", "Answer": -4.0, "Type": "Subtraction"},
    ]
    pack = "Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack. "
    assert build("svamp", {"SVAMP.json": json.dumps(rows)}) == {
        "chal-1": Problem(
            "chal-1", f"{pack}How much do you have to pay to buy each pack?", "51", "number", subject="Subtraction"
        ),
        "chal-2": Problem("chal-2", "He had $ 3. And now?", "1.5", "number", subject="Common-Division"),
        "chal-3": Problem("chal-3", "It is 2 degrees. And now?", "-4", "number", subject="Subtraction"),
    }


def test_svamp_errors(build):
    rows = [{"ID": "chal-1", "Body": "b", "Question": "q", "Answer": None, "Type": "Sum"}, {"ID": "chal-2", "Body": 1}]
    expected = ["SVAMP.json, row 1: Answer is empty", "SVAMP.json, row 2: Question is missing"]
    assert _errors(build, "svamp", {"SVAMP.json": json.dumps(rows)}) == expected


def _asdiv(*problems) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<Machine-Reading-Corpus-File>\n<ProblemSet>\n'
        + "\n".join(problems)
        + "\n</ProblemSet>\n</Machine-Reading-Corpus-File>\n"
    )


def _asdiv_problem(number: int, answer: str, solution_type="Addition") -> str:
    return f"""
    <Problem ID="nluds-{number:04}" Grade="3" Source="http://www.k5learning.com">
        <Body>It&apos;s {number} \u00b0C,</Body>
        <Question>how many?</Question>
        <Solution-Type Subgoal-1="Sum">{solution_type}</Solution-Type>
        <Answer>{answer}</Answer>
        <Formula>7+2=9</Formula>
    </Problem>"""


def test_asdiv(build):
    assert build("asdiv", {"ASDiv.xml": _asdiv(_asdiv_problem(1, "9 (apples)"))}) == {
        "nluds-0001": Problem("nluds-0001", "It's 1 \u00b0C, how many?", "9", "number", level="3", subject="Addition")
    }


@pytest.mark.parametrize(
    "answer, solution_type, expected",
    [
        ("14  (seats)", "TVQ-Final", ("14", "number")),
        ("0.46 (dollars)", "Subtraction", ("0.46", "number")),
        ("1,200 (cut-outs of Christmas trees)", "Sum", ("1,200", "number")),
        ("-3", "Algebra-1", ("-3", "number")),
        ("5/2", "Algebra-1", ("5/2", "number")),
        ("-(1/3)", "Algebra-1", ("-(1/3)", "expression")),
        ("5 (years old); 15 (years old); 20 (years old)", "Algebra-1", ("5, 15, 20", "set")),
        ("3.5 (km/hour); 1.8 (km/hour)", "Algebra-2", ("3.5, 1.8", "set")),
        ("8; 40", "Algebra-1", ("8, 40", "set")),
        ("5:6", "Ratio", ("5:6", "expression")),
        ("5:45", "Sum", ("5:45", "text")),
        ("9:03:36 a.m.", "Addition", ("9:03:36 a.m.", "text")),
        ("February 3rd", "Subtraction", ("February 3rd", "text")),
        ("6th", "Sequential-Operation", ("6th", "text")),
        ("Cesar's toothbrush", "Comparison", ("Cesar's toothbrush", "text")),
        ("Yes", "Comparison", ("Yes", "yes_no")),
    ],
)
def test_asdiv_answers(build, answer, solution_type, expected):
    (problem,) = build("asdiv", {"ASDiv.xml": _asdiv(_asdiv_problem(1, answer, solution_type))}).values()
    assert (problem.answer, problem.kind) == expected


def test_asdiv_errors(build):
    no_answer = _asdiv_problem(2, "").replace("<Body>It&apos;s 2 \u00b0C,</Body>", "<Body>b</Body>")
    no_grade = _asdiv_problem(3, "9 (apples)").replace('Grade="3"', "")
    expected = ["ASDiv.xml, row 2: Answer is empty", "ASDiv.xml, row 3: Grade is missing"]
    assert _errors(build, "asdiv", {"ASDiv.xml": _asdiv(_asdiv_problem(1, "1"), no_answer, no_grade)}) == expected
    with pytest.raises(ValueError, match="ASDiv.xml: not XML"):
        build("asdiv", {"ASDiv.xml": "404: Not Found"})


# ----------------------------------------------------------------------------------------------------------- choices


def _csqa(id: str, answer: str | None, *choices, labels="ABCDE", stem="What?") -> dict:
    question = {"question_concept": "c", "stem": stem}
    question["choices"] = [{"label": label, "text": text} for label, text in zip(labels, choices, strict=True)]
    return {"id": id, "question": question} | ({"answerKey": answer} if answer else {})


# As evalscope 1.14.1 quotes it, with the choices and the answer in the test.
DOOR = "A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?"


def test_commonsense_qa(build):
    places = ("bank", "library", "department store", "mall", "new york")
    rows = [
        _csqa("1afa02df02c908a558b4036e80242fac", "A", *places, stem=DOOR),
        _csqa("b", "E", "ice cream ", "salt, pepper", "caf\u00e9", "mall", "mall"),
    ]
    assert build("commonsense_qa", {"dev_rand_split.jsonl": _lines(*rows)}) == {
        "1afa02df02c908a558b4036e80242fac": Problem(
            "1afa02df02c908a558b4036e80242fac", DOOR, "A", "choice", choices=places
        ),
        "b": Problem("b", "What?", "E", "choice", choices=("ice cream", "salt, pepper", "caf\u00e9", "mall", "mall")),
    }


def test_commonsense_qa_errors(build):
    five = ("a", "b", "c", "d", "e")
    files = {"test_rand_split_no_answers.jsonl": _lines(_csqa("t", None, *five))}
    with pytest.raises(BenchmarkError, match="no split 'test'; available: train, validation"):
        build("commonsense_qa", files, "test")
    rows = [
        _csqa("t", None, *five),
        _csqa("u", "F", *five),
        _csqa("v", "A", *five, labels="ABDCE"),
        _csqa("w", "AB", *five),
        {"id": "x", "answerKey": "A", "question": "What?"},
        _csqa("y", "A", "", "b", "c", "d", "e"),
    ]
    assert _errors(build, "commonsense_qa", {"train_rand_split.jsonl": _lines(*rows)}, "train") == [
        "train_rand_split.jsonl, row 1: answerKey is missing",
        "train_rand_split.jsonl, row 2: answerKey is 'F', not one of A, B, C, D, E",
        "train_rand_split.jsonl, row 3: question: choices: 2: label is 'D', not one of C",
        "train_rand_split.jsonl, row 4: answerKey is 'AB', not one of A, B, C, D, E",
        "train_rand_split.jsonl, row 5: question is a string, not an object",
        "train_rand_split.jsonl, row 6: question: choices: 0: text is empty",
    ]


def _scq(id: str, answer: str, *contents, **changed) -> dict:
    return {
        "dataset_name": "prime_math_competition_en_single_choice_8K_dev",
        "dataset_version": "2023-07-07",
        "qid": "244",
        "queId": id,
        "competition_source_list": [],
        "difficulty": "2",
        "qtype": "single_choice",
        "problem": "What is the smallest value of $X+ Y$? ",
        "answer_option_list": [[{"aoVal": "ABCDEFGHIJ"[n], "content": text}] for n, text in enumerate(contents)],
        "knowledge_point_routes": [
            "Overseas Competition->Knowledge Point->Number Theory Modules->Division without Remainders",
            "Overseas In-curriculum->Knowledge Point->Operations of Numbers ->Percentages",
        ],
        "answer_analysis": None,
        "answer_value": answer,
    } | changed


def test_scq5k_en(build):
    five = ("$$3$$ ", "$$4$$ ", "\uff08$$2$$, $$3$$\uff09 ", "Odd, Even ", "None of the above ")
    three_lines = ["$666666$ is a multiple of $26$.  $\\Rightarrow XY$ is.\n  Smallest $X+Y=1+3=4$. "]
    other = {"knowledge_point_routes": ["Overseas Competition"], "difficulty": 0}
    rows = [
        _scq("8afc", "B", *five, answer_analysis=three_lines),
        "",
        _scq(
            "a", "A", "Correct", "Wrong", answer_analysis=["N/A.  Revise from (Book$$1$$) "], knowledge_point_routes=[]
        ),
        _scq("b", "J", *map(str, range(10)), answer_analysis=["There are $5-1=4$. Thus, $9$. "], **other),
    ]
    question, subject = "What is the smallest value of $X+ Y$?", "Number Theory Modules"
    steps = ("$666666$ is a multiple of $26$.", "$\\Rightarrow XY$ is.", "Smallest $X+Y=1+3=4$.")
    assert build("scq5k_en", {"en_single_choice_test_2K.jsonl": _lines(*rows)}) == {
        "8afc": Problem(
            id="8afc",
            question=question,
            answer="B",
            kind="choice",
            solution=(steps, "B"),
            choices=("$$3$$", "$$4$$", "\uff08$$2$$, $$3$$\uff09", "Odd, Even", "None of the above"),
            level="2",
            subject=subject,
        ),
        "a": Problem("a", question, "A", "choice", choices=("Correct", "Wrong"), level="2"),
        "b": Problem("b", question, "J", "choice", choices=tuple("0123456789"), level="0"),
    }


def test_scq5k_en_errors(build):
    rows = [
        _scq("a", "C", "1", "2"),
        _scq("b", "A", "1", "2", answer_option_list=[{"aoVal": "A", "content": "1"}]),
        _scq("c", "A", "1", "2", answer_option_list=[[{"aoVal": "B", "content": "1"}]]),
        _scq("d", "A", "1", " "),
        _scq("e", "A", "1", answer_option_list=None),
    ]
    where = "en_single_choice_train_3K.jsonl, row"
    assert _errors(build, "scq5k_en", {"en_single_choice_train_3K.jsonl": _lines(*rows)}, "train") == [
        f"{where} 1: answer_value is 'C', not one of A, B",
        f"{where} 2: answer_option_list is not a list of lists with one option each",
        f"{where} 3: answer_option_list: 0: aoVal is 'B', not one of A",
        f"{where} 4: answer_option_list: 1: content is empty",
        f"{where} 5: answer_option_list is not a list of lists with one option each",
    ]


# -------------------------------------------------------------------------------------------------------------- AIME


def test_aime_2025(build):
    # As evalscope 1.14.1 quotes it of aime25, with its answer 70.
    bases = "Find the sum of all integer bases $b>9$ for which $17_b$ is a divisor of $97_b.$"
    files = {
        "aime2025-I.jsonl": _lines({"question": bases, "answer": "70"}, {"question": "How many?", "answer": "016"}),
        "aime2025-II.jsonl": _lines({"question": "Which arc?", "answer": "336^\\circ"}),
    }
    assert build("aime_2025", files) == {
        "I/1": Problem("I/1", bases, "70", "number"),
        "I/2": Problem("I/2", "How many?", "16", "number"),
        "II/1": Problem("II/1", "Which arc?", "336", "number"),
    }


def test_aime_2025_errors(build):
    rows = [{"question": "q", "answer": answer} for answer in ("1000", "-1", "3.5", "")]
    files = {"aime2025-I.jsonl": _lines({"question": "q", "answer": "7"}), "aime2025-II.jsonl": _lines(*rows)}
    expected = [f"aime2025-II.jsonl, row {n + 1}: answer is " for n in range(4)]
    expected = [text + end for text, end in zip(expected, ("'1000'", "'-1'", "'3.5'", "empty"), strict=True)]
    found = _errors(build, "aime_2025", files)
    assert [line.removesuffix(", not an integer from 0 to 999") for line in found] == expected


# ---------------------------------------------------------------------------------------------------------- CMM-Math

CHOICE, BLANK, JUDGEMENT, WRITTEN = "选择题", "填空题", "判断题", "解答题"


def _image(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), color).save(file, "JPEG")
    return file.getvalue()


IMAGES = {f"{number}.jpg": _image(color) for number, color in ((9284, "red"), (9285, "green"), (9286, "blue"))}


def _cmm(id: str, answer: str, options="", question="问题", image=(), analysis="略") -> dict:
    return {
        "id": id,
        "image": list(image),
        "answer": answer,
        "solution": "null",
        "level": "高二",
        "question": question,
        "options": options,
        "subject": "解析几何",
        "analysis": analysis,
    }


def _cmm_files(rows, **types) -> dict:
    """Return the published files for these rows; all ids but those in `types` are multiple choice."""
    type_of = {"blank": BLANK, "judgement": JUDGEMENT, "written": WRITTEN}
    ids = {type_of[name]: ids for name, ids in types.items()}
    others = {id for ids in ids.values() for id in ids}
    ids[CHOICE] = [row["id"] for row in rows if row["id"] not in others]
    index = {}
    for type in (CHOICE, BLANK, WRITTEN, JUDGEMENT):
        index |= {type: len(ids.get(type, ())), f"{type}列表": list(ids.get(type, ()))}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as images:
        for name, data in IMAGES.items():
            images.writestr(f"images/All_Images/{name}", data)
    return {
        "test_data.jsonl": _lines(*rows),
        "Question_type_index.txt": json.dumps(index, ensure_ascii=False, indent=4),
        "images.zip": archive.getvalue(),
    }


def test_cmm_math(build):
    slope = "在平面直角坐标系 $x O y$ 中,$M$ 为区域上一动点,则直线 OM 斜率的最小值为 ( )"
    options = "A. $-\\frac{1}{3}$\nB. $-\\frac{1}{2}$\nC. 1\nD. 2"
    figure = "如图, 平行四边形 $A B C D$ 中\n\n<ImageHere>\n\n则 $x=$ ____"
    rows = [
        # The image belongs to the solution.
        _cmm("19900", "A", options, slope, ["9285.jpg"], "可行域如图\n\n<ImageHere>\n\n所以 $k=-\\frac{1}{3}$."),
        _cmm("2", "$3-\\sqrt{3}$", [], figure, ["9284.jpg"]),
    ]
    assert build("cmm_math", _cmm_files(rows, blank=["2"])) == {
        "19900": Problem(
            id="19900",
            question=slope,
            answer="A",
            kind="choice",
            choices=("$-\\frac{1}{3}$", "$-\\frac{1}{2}$", "1", "2"),
            level="高二",
            subject="解析几何",
        ),
        "2": Problem(
            id="2",
            question="如图, 平行四边形 $A B C D$ 中\n\n[图1]\n\n则 $x=$ ____",
            answer="$3-\\sqrt{3}$",
            kind="expression",
            images=(IMAGES["9284.jpg"],),
            level="高二",
            subject="解析几何",
        ),
    }


def test_cmm_math_choices(build):
    pictures = "A. <ImageHere>\nB. <ImageHere>"
    images = ["9286.jpg", "9285.jpg", "9284.jpg", "9284.jpg"]
    rows = [
        _cmm("one line", "B.", "A. (-1, 1)  B．{2, 3}  C、4"),
        _cmm("several", "AC", "A. 1\nB. 2\nC. 3"),
        _cmm("pictures", "（B）", pictures, "哪个?<ImageHere>", images),
        # An error of text recognition: C is missing.
        _cmm("broken", "D", "A. 1\nB. 3 c. $\\frac{3}{2}$\nD. 2"),
        _cmm("in the question", "C", "[]", "哪个? A. 1 B. 2 C. 3"),
        _cmm("letter without a choice", "D", "A. 1\nB. 2"),
        _cmm("no letter", "见解析", "A. 1\nB. 2"),
        _cmm("no answer", "", "A. 1\nB. 2"),
        _cmm("no images", "A", pictures, image=["9284.jpg"]),
        _cmm("proof", "证明: $x=1$.", []),
    ]
    problems = build("cmm_math", _cmm_files(rows, written=["proof"]))
    assert {id: (p.answer, p.kind, p.choices, len(p.images)) for id, p in problems.items()} == {
        "one line": ("B", "choice", ("(-1, 1)", "{2, 3}", "4"), 0),
        "several": ("A, C", "set", ("1", "2", "3"), 0),
        "pictures": ("B", "choice", ("[图2]", "[图3]"), 3),
        "broken": ("D", "choice", (), 0),
        "in the question": ("C", "choice", (), 0),
    }
    assert problems["pictures"].question == "哪个?[图1]"
    assert problems["pictures"].images == tuple(IMAGES[f"{n}.jpg"] for n in (9286, 9285, 9284))
    assert problems["broken"].question == "问题\nA. 1\nB. 3 c. $\\frac{3}{2}$\nD. 2"


def test_cmm_math_blanks_and_judgements(build):
    answers = {
        "11": ("11", "expression"),
        "-4.": ("-4", "expression"),
        "1,200": ("1,200", "expression"),
        "$(1,2)$": ("$(1,2)$", "expression"),
        "$\\left\\{x \\mid x>1, x \\in Z\\right\\}$": ("$\\left\\{x \\mid x>1, x \\in Z\\right\\}$", "expression"),
        "$3$；$\\frac{1}{2}$": ("$3$, $\\frac{1}{2}$", "set"),
        "(-3, 1), (0, 2)": ("(-3, 1), (0, 2)", "set"),
        "大于，12": ("大于, 12", "set"),
        "3\n4 、5": ("3, 4, 5", "set"),
        "对": ("Yes", "yes_no"),
        "√": ("Yes", "yes_no"),
        "$\\times$": ("No", "yes_no"),
        "错误。": ("No", "yes_no"),
        # Answers that cannot be checked are left out.
        "null": None,
        "不一定": None,
    }  # fmt: skip
    judged = [str(n) for n, expected in enumerate(answers.values()) if not expected or expected[1] == "yes_no"]
    rows = [_cmm(str(n), answer) for n, answer in enumerate(answers)]
    blank = [row["id"] for row in rows if row["id"] not in judged]
    problems = build("cmm_math", _cmm_files(rows, blank=blank, judgement=judged))
    found = {rows[int(id)]["answer"]: (problem.answer, problem.kind) for id, problem in problems.items()}
    assert found == {answer: expected for answer, expected in answers.items() if expected}


def test_cmm_math_errors(build):
    rows = [
        _cmm("unknown", "A"),
        _cmm("a", "A", question=""),
        _cmm("b", "A", options={"A": 1}),
        _cmm("c", "A", question="<ImageHere>", image=["1.jpg"]),
        _cmm("d", "A") | {"image": "9284.jpg"},
        _cmm("e", "A") | {"level": None},
    ]
    files = _cmm_files(rows[1:]) | {"test_data.jsonl": _lines(*rows, "{torn")}
    errors = _errors(build, "cmm_math", files)
    assert errors[:-1] == [
        "test_data.jsonl, row 1: id is in no list of Question_type_index.txt",
        "test_data.jsonl, row 2: question is empty",
        "test_data.jsonl, row 3: options is an object, not a list",
        "test_data.jsonl, row 4: image 1.jpg is not in images.zip",
        "test_data.jsonl, row 5: image is a string, not a list",
        "test_data.jsonl, row 6: level is empty",
    ]
    assert errors[-1].startswith("test_data.jsonl, row 7: not JSON")


@pytest.mark.parametrize("index", ["[]", "{torn", '{"选择题列表": ["1"]}', '{"选择题列表": 1}'])
def test_cmm_math_wrong_index(build, index):
    files = _cmm_files([_cmm("1", "A")]) | {"Question_type_index.txt": index}
    with pytest.raises(ValueError, match="Question_type_index.txt: not an object with lists of ids"):
        build("cmm_math", files)
