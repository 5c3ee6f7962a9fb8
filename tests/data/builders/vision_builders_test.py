"""Benchmarks with images: rows as published, and the problems and errors they give."""

import io
import json
import zipfile

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from mig_jax.data.builders import mmstar, open_benchmark
from mig_jax.data.builders.benchmark import BenchmarkError
from mig_jax.data.image_archive import ImageArchive
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import RowError


def _image(color: str, kind: str = "PNG", size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), color).save(file, kind)
    return file.getvalue()


RED, BLUE, GREEN = _image("red"), _image("blue", "JPEG"), _image("green", "WEBP")
HALF = _image("red", "JPEG", size=64)[:400]  # truncated: opens, but cannot be decoded


def _zip(path, files: dict[str, bytes | object]) -> None:
    """Write an archive of images (bytes) and JSON files (other values), without compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))


def _unzip(path, folder) -> None:
    """Replace an archive by the folder of its files."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    path.unlink()


def _write(path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _table(path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def _built(name: str, data_dir, split: str = "") -> list[Problem]:
    """Return the problems sorted by id, because TFDS does not keep their order."""
    return sorted(open_benchmark(name, split=split, data_dir=data_dir), key=lambda problem: problem.id)


def _errors(name: str, data_dir, split: str = "") -> list[str]:
    with pytest.raises(BenchmarkError) as error:
        open_benchmark(name, split=split, data_dir=data_dir)
    title, *errors = str(error.value).split("\n  ")
    assert title.startswith(f"{name} (") and title.endswith("is not as published:")
    return errors


# ------------------------------------------------------------------------------------------------------- Super-CLEVR


def _vehicles(image_index: int, question: str, answer: object, template: str = "compare_integer.json") -> dict:
    """Return a row with all fields that the authors' generator writes."""
    return {
        "split": "new", "image_filename": f"superCLEVR_new_{image_index:06d}.png", "image_index": image_index,
        "image": f"superCLEVR_new_{image_index:06d}", "question": question, "answer": answer,
        "program": [{"type": "scene", "inputs": [], "side_inputs": []}], "obj_map": [[0], [1]],
        "template_filename": template, "question_family_index": 0, "question_hash": "0_x", "question_index": 0,
    }  # fmt: skip


def _super_clevr(folder, rows: list[object], images: dict[str, bytes]) -> None:
    _write(folder / "super_clevr/superCLEVR_questions_30k.json", {"info": {"version": "1.0"}, "questions": rows})
    _zip(folder / "super_clevr/images.zip", {f"images/{name}": data for name, data in images.items()})


@pytest.mark.parametrize("unpacked", [None, "", "images"])
def test_super_clevr_splits_by_image_and_sets_answer_kinds(tmp_path, unpacked):
    gray = "Is the number of gray bicycles the same as the number of cyan metallic minivans?"
    rows = [
        _vehicles(0, gray, False),
        _vehicles(19_999, "Is there a bus?", True, "zero_hop.json"),
        _vehicles(20_000, "How many things are there?", 1, "zero_hop.json"),
        _vehicles(24_999, "How many buses are there?", 0, "zero_hop.json"),
        _vehicles(25_000, "What is the big thing made of?", "rubber", "one_hop.json"),
        _vehicles(29_999, "What is the small thing?", "articulated bus", "one_hop.json"),
        _vehicles(29_999, "How many things are there?", 12, "zero_hop.json"),
    ]
    colors = {0: RED, 19_999: BLUE, 20_000: GREEN, 24_999: RED, 25_000: BLUE, 29_999: GREEN}
    _super_clevr(tmp_path, rows, {f"superCLEVR_new_{index:06d}.png": data for index, data in colors.items()})
    if unpacked is not None:
        _unzip(tmp_path / "super_clevr/images.zip", tmp_path / "super_clevr" / unpacked)

    def problem(id, question, answer, kind, image, subject):
        return Problem(id, question, answer, kind, images=(image,), subject=subject, source="super_clevr")

    assert _built("super_clevr", tmp_path, "train") == [
        problem("train/1", gray, "no", "yes_no", RED, "compare_integer"),
        problem("train/2", "Is there a bus?", "yes", "yes_no", BLUE, "zero_hop"),
    ]
    # 1 and 0 are numbers, not booleans.
    assert _built("super_clevr", tmp_path, "val") == [
        problem("val/3", "How many things are there?", "1", "number", GREEN, "zero_hop"),
        problem("val/4", "How many buses are there?", "0", "number", RED, "zero_hop"),
    ]
    assert _built("super_clevr", tmp_path) == [
        problem("test/5", "What is the big thing made of?", "rubber", "text", BLUE, "one_hop"),
        problem("test/6", "What is the small thing?", "articulated bus", "text", GREEN, "one_hop"),
        problem("test/7", "How many things are there?", "12", "number", GREEN, "zero_hop"),
    ]


def test_super_clevr_errors(tmp_path):
    nowhere, unanswered = _vehicles(3, "Where?", 1), _vehicles(4, "Why?", 1)
    nowhere["image_index"] = "three"
    del unanswered["answer"]
    rows = [
        _vehicles(0, "Is it red?", True),
        _vehicles(1, "Is it there?", True),
        _vehicles(2, "Is it whole?", True),
        nowhere,
        unanswered,
        _vehicles(5, "Which?", ["one", "two"]),
        "a text",
    ]
    _super_clevr(tmp_path, rows, {"superCLEVR_new_000000.png": RED, "superCLEVR_new_000002.png": HALF})
    file = "superCLEVR_questions_30k.json"
    assert _errors("super_clevr", tmp_path, "train") == [
        f"{file}, row 2: image images/superCLEVR_new_000001.png is not in images.zip",
        f"{file}, row 3: image images/superCLEVR_new_000002.png: not an image, or a damaged one",
        f"{file}, row 4: image_index is 'three', not a non-negative integer",
        f"{file}, row 5: answer is missing",
        f"{file}, row 6: answer is a list, not a string or a number",
        f"{file}, row 7: a string, not an object",
    ]


# ------------------------------------------------------------------------------------------------------ CLEVR-CoGenT


def _solids(split: str, number: int, question: str, answer: str) -> dict:
    return {
        "question_index": number, "question_family_index": 46, "image_index": 0, "question": question,
        "answer": answer, "image_filename": f"CLEVR_{split}_000000.png", "split": split,
        "program": [{"value_inputs": ["large"], "inputs": [0], "function": "filter_size"}],
    }  # fmt: skip


def _clevr_cogent(folder, questions: dict[str, list[dict]], images: dict[str, bytes]) -> None:
    files = {f"questions/CLEVR_{split}_questions.json": {"info": {}, "questions": q} for split, q in questions.items()}
    files |= {f"images/{split}/CLEVR_{split}_000000.png": data for split, data in images.items()}
    archive = folder / "clevr_cogent/CLEVR_CoGenT_v1.0.zip"
    _zip(archive, {f"CLEVR_CoGenT_v1.0/{name}": content for name, content in files.items()})


@pytest.mark.parametrize("unpacked", [None, "", "CLEVR_CoGenT_v1.0"])
def test_clevr_cogent_reads_questions_and_images_from_one_archive(tmp_path, unpacked):
    gray = "Are there any gray things made of the same material as the big cyan cylinder?"
    questions = {
        "trainA": [_solids("trainA", 0, gray, "no"), _solids("trainA", 1, "What color is it?", "cyan")],
        "valA": [_solids("valA", 0, "Is it red?", "yes")],
        "valB": [_solids("valB", 0, "How many balls are there?", "0"), _solids("valB", 1, "How many?", "10")],
        "testB": [{"question_index": 0, "image_filename": "CLEVR_testB_000000.png", "question": "How many?"}],
    }
    _clevr_cogent(tmp_path, questions, {"trainA": RED, "valA": GREEN, "valB": BLUE, "testB": RED})
    if unpacked is not None:
        _unzip(tmp_path / "clevr_cogent/CLEVR_CoGenT_v1.0.zip", tmp_path / "clevr_cogent" / unpacked)
    source = "clevr_cogent"
    assert _built(source, tmp_path) == [
        Problem("valB/0", "How many balls are there?", "0", "number", images=(BLUE,), source=source),
        Problem("valB/1", "How many?", "10", "number", images=(BLUE,), source=source),
    ]
    assert _built(source, tmp_path, "trainA") == [
        Problem("trainA/0", gray, "no", "yes_no", images=(RED,), source=source),
        Problem("trainA/1", "What color is it?", "cyan", "text", images=(RED,), source=source),
    ]
    assert _built(source, tmp_path, "valA") == [
        Problem("valA/0", "Is it red?", "yes", "yes_no", images=(GREEN,), source=source)
    ]
    with pytest.raises(BenchmarkError, match="no split 'testB'; available: trainA, valA, valB"):
        open_benchmark(source, split="testB", data_dir=tmp_path)


def test_clevr_cogent_errors(tmp_path):
    unanswered = _solids("trainA", 1, "What color is it?", "")
    questions = {"trainA": [_solids("trainA", 0, "Is it red?", "yes"), unanswered]}
    _clevr_cogent(tmp_path, questions, {"valA": RED})
    assert _errors("clevr_cogent", tmp_path, "trainA") == [
        "questions/CLEVR_trainA_questions.json, row 1: image images/trainA/CLEVR_trainA_000000.png is not in "
        "CLEVR_CoGenT_v1.0.zip",
        "questions/CLEVR_trainA_questions.json, row 2: answer is empty",
    ]


def test_large_fields_are_dropped_at_any_depth_while_parsing(tmp_path):
    row = {"question": "How many?", "program": [{"program": 1}], "scene": {"program": 2, "size": 3}}
    _write(tmp_path / "rows.json", {"questions": [row]})
    _zip(tmp_path / "archive.zip", {"a/rows.json": {"questions": [row]}, "a/broken.json": b"{"})
    archive = ImageArchive(tmp_path / "archive.zip")
    options = {"under": "questions", "without": ("program",)}
    for rows in (read_rows(tmp_path / "rows.json", **options), archive.read_rows("rows.json", **options)):
        assert [(row.location, row.values) for row in rows] == [
            ("rows.json, row 1", {"question": "How many?", "scene": {"size": 3}})
        ]
    assert next(archive.read_rows("a/rows.json", under="questions")).values == row
    for name, message in {"no.json": "no.json is not in archive.zip", "broken.json": "broken.json: not JSON"}.items():
        with pytest.raises(RowError, match=message):
            list(archive.read_rows(name))


# ----------------------------------------------------------------------------------------------------------- ChartQA


def _chartqa(folder, rows: dict[str, list[dict]], images: dict[str, bytes]) -> None:
    """Write the archive; files of questions that are not given have no rows."""
    files = {
        f"{split}/{split}_{author}.json": rows.get(f"{split}_{author}", [])
        for split in ("train", "val", "test")
        for author in ("human", "augmented")
    }
    archive = folder / "chartqa/ChartQA Dataset.zip"
    _zip(archive, {f"ChartQA Dataset/{name}": content for name, content in (files | images).items()})


@pytest.mark.parametrize("unpacked", [None, "", "ChartQA Dataset"])
def test_chartqa_reads_all_kinds_of_labels(tmp_path, unpacked):
    def row(label: object, query: str = "What?", imgname: str = "166.png") -> dict:
        return {"imgname": imgname, "query": query, "label": label}

    items = "How many food item is shown in the bar graph?"  # as evalscope 1.14.1 quotes it, and its label 14
    rows = {
        "test_human": [
            row("14", items, "41699051005347.png"),
            row("[2013, 2016]"),
            row(["Norway", "Denmark"]),
            row(["Yes"]),
            row("Cooking (e.g., MasterChef, Chopped, etc.)"),
        ],
        "test_augmented": [row("62%"), row(0.57), row(" 977,633 ")],
        # The same image name in another folder.
        "train_human": [row("1")],
        "val_augmented": [row("2")],
    }
    images = {"test/png/41699051005347.png": RED, "test/png/166.png": BLUE}
    _chartqa(tmp_path, rows, images | {"train/png/166.png": GREEN, "val/png/166.png": RED})
    if unpacked is not None:
        _unzip(tmp_path / "chartqa/ChartQA Dataset.zip", tmp_path / "chartqa" / unpacked)

    def problem(id, answer, question="What?", image=BLUE):
        author = id.split("/")[1]
        return Problem(id, question, answer, "relaxed", images=(image,), subject=author, source="chartqa")

    assert _built("chartqa", tmp_path) == [
        problem("test/augmented/1", "62%"),
        problem("test/augmented/2", "0.57"),
        problem("test/augmented/3", "977,633"),
        problem("test/human/1", "14", items, RED),
        problem("test/human/2", "[2013, 2016]"),
        problem("test/human/3", "[Norway, Denmark]"),
        problem("test/human/4", "Yes"),
        problem("test/human/5", "Cooking (e.g., MasterChef, Chopped, etc.)"),
    ]
    assert _built("chartqa", tmp_path, "train") == [problem("train/human/1", "1", image=GREEN)]
    assert _built("chartqa", tmp_path, "val") == [problem("val/augmented/1", "2", image=RED)]


def test_chartqa_errors(tmp_path):
    rows = [
        {"imgname": "gone.png", "query": "What?", "label": "1"},
        {"imgname": "half.png", "query": "What?", "label": "1"},
        {"imgname": "whole.png", "query": "What?", "label": []},
        {"imgname": "whole.png", "query": "What?", "label": ["1", ""]},
        {"imgname": "whole.png", "query": "What?", "label": {"text": "1"}},
        {"imgname": "whole.png", "query": " ", "label": "1"},
    ]
    images = {"train/png/half.png": HALF, "train/png/whole.png": RED}
    _chartqa(tmp_path, {"train_augmented": rows}, images)
    where = "train/train_augmented.json, row"
    assert _errors("chartqa", tmp_path, "train") == [
        f"{where} 1: image train/png/gone.png is not in ChartQA Dataset.zip",
        f"{where} 2: image train/png/half.png: not an image, or a damaged one",
        f"{where} 3: label is an empty list, or has an empty item",
        f"{where} 4: label is an empty list, or has an empty item",
        f"{where} 5: label is an object, not a string or a number",
        f"{where} 6: query is empty",
    ]


# ---------------------------------------------------------------------------------------------------- HallusionBench


def _hallusion(**changed) -> dict:
    # As evalscope 1.14.1 quotes it; file name and note are added, and the details of the answer are cut.
    row = {
        "category": "VS", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": "1",
        "sample_note": "import", "question_id": "0", "question": "Is China, Hongkong SAR, the leading importing "
        "country of gold, silverware, and jewelry with the highest import value in 2018?", "gt_answer_details": "…",
        "gt_answer": "0", "filename": "./VS/chart/0_1.png",
    }  # fmt: skip
    return row | changed


@pytest.mark.parametrize("unpacked", [None, "", "hallusion_bench"])
def test_hallusion_bench_ids_name_figures_and_questions(tmp_path, unpacked):
    rows = [
        _hallusion(visual_input="0", figure_id="0", filename=None),
        _hallusion(),
        _hallusion(visual_input="2", figure_id="2", filename="./VS/chart/0_2.png", gt_answer="1"),
        _hallusion(category="VD", subcategory="illusion", figure_id="0", question="Is the right orange circle the same "
                   "size as the left orange circle?", gt_answer="1", filename="./VD/illusion/0_0.png"),
    ]  # fmt: skip
    _write(tmp_path / "hallusion_bench/HallusionBench.json", rows)
    images = {"VS/chart/0_1.png": RED, "VS/chart/0_2.png": GREEN, "VD/illusion/0_0.png": BLUE}
    archive = tmp_path / "hallusion_bench/hallusion_bench.zip"
    _zip(archive, {f"hallusion_bench/{name}": data for name, data in images.items()})
    if unpacked is not None:
        _unzip(archive, archive.parent / unpacked)

    def problem(id, answer, images, question=rows[0]["question"]):
        category, subcategory, *_ = id.split("/")
        options = {"images": images, "level": category, "subject": subcategory, "source": "hallusion_bench"}
        return Problem(id, question, answer, "yes_no", **options)

    assert _built("hallusion_bench", tmp_path) == [
        problem("VD/illusion/0/0/0", "yes", (BLUE,), rows[3]["question"]),
        problem("VS/chart/0/0/0", "no", ()),
        problem("VS/chart/0/1/0", "no", (RED,)),
        problem("VS/chart/0/2/0", "yes", (GREEN,)),
    ]


def test_hallusion_bench_errors(tmp_path):
    rows = [
        _hallusion(),
        _hallusion(filename=None),
        _hallusion(filename="./VS/chart/9_9.png"),
        _hallusion(gt_answer="2"),
        _hallusion(visual_input="3"),
        _hallusion(set_id=None),
    ]
    _write(tmp_path / "hallusion_bench/HallusionBench.json", rows)
    archive = tmp_path / "hallusion_bench/hallusion_bench.zip"
    _zip(archive, {"hallusion_bench/VS/chart/0_1.png": RED})
    # Change a byte of the image; its checksum in the archive shows it.
    archive.write_bytes(archive.read_bytes().replace(RED, RED[:-1] + b"!"))
    assert _errors("hallusion_bench", tmp_path) == [
        "HallusionBench.json, row 1: image ./VS/chart/0_1.png cannot be read from hallusion_bench.zip (Bad CRC-32 for "
        "file 'hallusion_bench/VS/chart/0_1.png')",
        "HallusionBench.json, row 2: filename is empty",
        "HallusionBench.json, row 3: image ./VS/chart/9_9.png is not in hallusion_bench.zip",
        "HallusionBench.json, row 4: gt_answer is '2', not one of 0, 1",
        "HallusionBench.json, row 5: visual_input is '3', not one of 0, 1, 2",
        "HallusionBench.json, row 6: set_id is empty",
    ]


# ------------------------------------------------------------------------------------------------------------ MMStar

# The choices of row 0, as evalscope 1.14.1 quotes it.
SUITCASE = (
    "The suitcase is on the book.", "The suitcase is beneath the cat.", "The suitcase is beneath the bed.",
    "The suitcase is beneath the book.",
)  # fmt: skip
HINT = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\nQuestion: "
)


def _star(index: int, question: str, answer: str, **changed) -> dict:
    row = {
        "index": index, "question": question, "image": RED, "answer": answer, "category": "coarse perception",
        "l2_category": "image scene and topic",
        "meta_info": {"source": "MMBench", "split": "val", "image_path": f"images/{index}.jpg"},
    }  # fmt: skip
    return row | changed


def test_mmstar_separates_choices_from_the_question(tmp_path):
    which = "Which option describe the object relationship in the image correctly?"
    options = ", ".join(f"{letter}: {text}" for letter, text in zip("ABCD", SUITCASE, strict=True))
    rows = [
        _star(0, f"{which}\nOptions: {options}", "A"),
        _star(49, "Which is more brightful?\nOptions: A: The first image, B: The second image, C: nan, D: nan", "B"),
        _star(253, f"{HINT}What is the sum?\nChoices:\n(A) 40.7\n(B) 74\n(C) 70.4\n(D) 70.0", "C", category="math"),
        _star(900, "Which of them?", "D"),
    ]  # fmt: skip
    _table(tmp_path / "mmstar/mmstar.parquet", rows)

    def problem(id, question, answer, choices, level="coarse perception"):
        options = {"images": (RED,), "choices": choices, "level": level, "subject": "image scene and topic"}
        return Problem(id, question, answer, "choice", source="MMBench", **options)

    assert _built("mmstar", tmp_path) == [
        problem("0", which, "A", SUITCASE),
        problem("253", "What is the sum?", "C", ("40.7", "74", "70.4", "70.0"), "math"),
        problem("49", "Which is more brightful?", "B", ("The first image", "The second image")),
        problem("900", "Which of them?", "D", ()),
    ]


@pytest.mark.parametrize(
    ("text", "question", "choices"),
    [
        # Commas, colons and letters within choices; choices of several lines.
        ("What?\nOptions: A: a, b and C, B: x: y, C: 12.0kN.m, -3kN.m, D: $1,000", "What?",
         ("a, b and C", "x: y", "12.0kN.m, -3kN.m", "$1,000")),
        ("What?\nOptions: A: n = 6\nprint(n, 'x'), B: n = 5\n\nprint(n, 'x')", "What?",
         ("n = 6\nprint(n, 'x')", "n = 5\n\nprint(n, 'x')")),
        ("What?\nOptions: A: D, B: C, C: B, D: A", "What?", ("D", "C", "B", "A")),
        ("What?\nChoices:\n(A) A\n(B) (B) or C\n(C) C, D", "What?", ("A", "(B) or C", "C, D")),
        ("What?\n(A) 54\n(B) 52", "What?", ("54", "52")),
        # nan is padding only at the end.
        ("What?\nOptions: A: nan, B: 1, C: nan", "What?", ("nan", "1")),
    ],
)  # fmt: skip
def test_mmstar_splits_clear_choices(text, question, choices):
    assert mmstar.split_choices(text) == (question, choices)


@pytest.mark.parametrize(
    "text",
    [
        "What?",
        "What are the Options: A: or B: ?",
        "What?\nOptions: A: only one",
        "What?\nOptions: A: nan, B: nan",
        "What?\nOptions: A: one, C: three",
        "What?\nOptions: B: two, A: one",
        "What?\nOptions: A: vitamin, B: 12, B: two",
        "What?\nOptions: A: one\nOptions: A: one, B: two",
        "What?\nOptions: A: , B: two",
        "What?\nChoices:\n(A) one\n(A) one\n(B) two",
    ],
)
def test_mmstar_keeps_ambiguous_choices_in_the_question(text):
    assert mmstar.split_choices(text) == (text, ())


def test_mmstar_errors(tmp_path):
    options = "What?\nOptions: A: one, B: two, C: nan, D: nan"
    rows = [_star(0, options, "C"), _star(1, options, "AB"), _star(2, options, "A", image=HALF),
            _star(3, "What?", "a"), _star(4, options, "A", meta_info=None)]  # fmt: skip
    _table(tmp_path / "mmstar/mmstar.parquet", rows)
    assert _errors("mmstar", tmp_path) == [
        "mmstar.parquet, row 1: answer is 'C', not one of A, B",
        "mmstar.parquet, row 2: answer is 'AB', not one of A, B",
        "mmstar.parquet, row 3: image: not an image, or a damaged one",
        f"mmstar.parquet, row 4: answer is 'a', not one of {', '.join('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}",
        "mmstar.parquet, row 5: meta_info is null, not an object",
    ]


# --------------------------------------------------------------------------------------------------------- MathVista


def _vista(pid: int, question: str, answer: str, answer_type: str, **changed) -> dict:
    row = {
        "pid": str(pid), "question": question, "image": f"images/{pid}.jpg",
        "decoded_image": {"bytes": RED, "path": f"{pid}.jpg"}, "choices": None, "unit": None, "precision": None,
        "answer": answer, "question_type": "free_form", "answer_type": answer_type, "query": "Hint: …",
        "metadata": {
            "split": "testmini", "language": "english", "img_width": 8, "img_height": 8, "source": "ChartQA",
            "category": "general-vqa", "task": "figure question answering", "context": "bar chart",
            "grade": "not applicable", "skills": ["arithmetic reasoning"],
        },
    }  # fmt: skip
    return row | changed


def _mathvista(folder, rows: list[dict]) -> None:
    _table(folder / "mathvista/testmini-00000-of-00001-725687bf7a18d64b.parquet", rows)


# As evalscope 1.14.1 quotes it; only the end of the question is used here.
SPRING = (
    "When the canister is momentarily stopped by the spring, by what distance $d$ is the spring compressed?", "1.2",
    "float",
)  # fmt: skip


def test_mathvista_sets_answer_kinds(tmp_path):
    choices = {"question_type": "multi_choice"}
    ranges, numbers = ["[0, 2]", "[3, 2]", "[2, 4]", "[-3, 4]"], ["9", "12", "18", "18"]
    rows = [
        _vista(1, *SPRING, precision=1.0),
        _vista(2, "what is the total volume of the measuring cup?", "1000", "integer", unit="g"),
        _vista(108, "Find out the average of the bottom two countries ??", "51.04", "float", precision=2.0),
        _vista(109, "Find $Q_L$. \r\n", "51", "float", precision=2.0, decoded_image={"bytes": GREEN, "path": None}),
        _vista(110, "How cold is it?", "-0.5", "float", precision=1.0),
        _vista(117, "What is the range of this function?", "[-3, 4]", "text", choices=ranges, **choices),
        _vista(506, "Between which two years does the line  graph saw its maximum peak?", "[2014, 2016]", "list"),
        _vista(781, "Find $CD$.", "18", "text", choices=numbers, **choices),
        _vista(782, "Who?", "Ada", "text"),
    ]
    rows[0]["metadata"] |= {"source": "SciBench", "task": "textbook question answering", "grade": "college"}
    rows[1]["metadata"] |= {"source": "TextVQA", "task": "visual question answering"}
    _mathvista(tmp_path, rows)

    def problem(id, question, answer, kind, **changed):
        usual = {"images": (RED,), "level": "not applicable", "subject": "figure question answering"}
        return Problem(id, question, answer, kind, **usual | {"source": "ChartQA"} | changed)

    cup = "what is the total volume of the measuring cup? (Unit: g)"
    textbook = {"source": "SciBench", "subject": "textbook question answering", "level": "college"}
    assert _built("mathvista", tmp_path) == [
        problem("1", SPRING[0], "1.2", "rounded", **textbook),
        problem("108", "Find out the average of the bottom two countries ??", "51.04", "rounded"),
        problem("109", "Find $Q_L$.", "51.00", "rounded", images=(GREEN,)),
        problem("110", "How cold is it?", "-0.5", "rounded"),
        problem("117", "What is the range of this function?", "D", "nearest_choice", choices=tuple(ranges)),
        problem("2", cup, "1000", "integer", subject="visual question answering", source="TextVQA"),
        problem("506", "Between which two years does the line  graph saw its maximum peak?", "[2014, 2016]", "text"),
        # Of two equal choices, the first.
        problem("781", "Find $CD$.", "C", "nearest_choice", choices=tuple(numbers)),
        problem("782", "Who?", "Ada", "text"),
    ]


def test_mathvista_errors(tmp_path):
    choices = {"question_type": "multi_choice"}
    rows = [
        _vista(1, "What?", "5", "text", choices=["1", "2"], **choices),
        _vista(2, "What?", "5", "text", **choices),
        _vista(3, "What?", "5", "fraction"),
        _vista(4, "What?", "five", "float", precision=1.0),
        _vista(5, "What?", "1.25", "float", precision=1.0),
        _vista(6, "What?", "1.25", "float"),
        _vista(7, "What?", "1.25", "float", precision=1.5),
        _vista(8, "What?", "nan", "float", precision=1.0),
        _vista(9, "What?", "1", "integer", decoded_image={"bytes": None, "path": "9.jpg"}),
        _vista(10, "What?", "1.5", "integer"),
        _vista(11, "What?", "", "integer"),
    ]
    _mathvista(tmp_path, rows)
    where = "testmini-00000-of-00001-725687bf7a18d64b.parquet, row"
    assert _errors("mathvista", tmp_path) == [
        f"{where} 1: answer is '5', not one of 1, 2",
        f"{where} 2: choices has 0 items, not 2 to 26",
        f"{where} 3: answer_type is 'fraction', not one of integer, float, list, text",
        f"{where} 4: answer is 'five', not a number with at most 1 decimals",
        f"{where} 5: answer is '1.25', not a number with at most 1 decimals",
        f"{where} 6: precision is empty",
        f"{where} 7: precision is '1.5', not a non-negative integer",
        f"{where} 8: answer is 'nan', not a number with at most 1 decimals",
        f"{where} 9: decoded_image is not an image",
        f"{where} 10: answer is '1.5', not a number with at most 0 decimals",
        f"{where} 11: answer is empty",
    ]
