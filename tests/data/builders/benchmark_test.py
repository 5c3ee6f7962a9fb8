"""The base class of benchmarks: files are found, downloaded and built completely or not at all; errors are listed."""

import http.server
import io
import json
import threading
import zipfile

import pytest
from PIL import Image

from mig_jax.data import builders
from mig_jax.data.builders import benchmark
from mig_jax.data.problem import Problem


class Sums(benchmark.Benchmark):
    """Sums; a row: {"sum": "1+1", "value": 2, "how": ["…", …]}"""

    name = "sums"
    FILES = {"train": ("train.jsonl",), "test": ("one.jsonl", "two.jsonl")}
    HOMEPAGE = "https://example.org/sums"
    LICENSE = "MIT"

    def parse_row(self, row, split):
        """Return the problem; a sum without a value is left out."""
        if row.value("value") is None:
            return None
        steps = row.texts("how")
        answer = row.text("value")
        return Problem(
            f"{split}/{row.text('sum')}", row.text("sum"), answer, "number", (steps, answer) if steps else None
        )


class Pictures(benchmark.Benchmark):
    """Pictures; a row: {"file": "1.png"}"""

    name = "pictures"
    FILES = {"test": ("test.jsonl",)}
    ARCHIVES = ("shown.zip",)
    HOMEPAGE = "https://example.org/pictures"
    LICENSE = "MIT"

    def parse_row(self, row, split):
        name = row.text("file")
        image = self.archives["shown.zip"].read_image(row, name)
        return Problem(name, "What is it?", "red", "text", images=(image, image), choices=("red", "blue, or green"))


@pytest.fixture
def open_sums(tmp_path, monkeypatch):
    """A function that writes the given files and opens a split of Sums; a row may be a line that is not JSON."""
    monkeypatch.setattr(builders, "get_builder", lambda name: Sums)

    def open_split(split="", **files):
        for name, rows in files.items():
            _write_rows(tmp_path / "sums" / f"{name}.jsonl", rows)
        return builders.open_benchmark("sums", split=split, data_dir=tmp_path)

    return open_split


@pytest.fixture
def server(tmp_path):
    """The address of a server for the files in tmp_path/published; its short.jsonl is an incomplete transfer."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "published")

        def do_GET(self):
            if not self.path.endswith("/short.jsonl"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"sum": "1+1", "value"')

        def log_message(self, *args):
            pass

    (tmp_path / "published").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def _write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")


def _sum(terms: str) -> dict:
    return {"sum": terms, "value": sum(map(int, terms.split("+")))}


def _image(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), color).save(file, "PNG")
    return file.getvalue()


def test_problems_are_stored_unchanged(open_sums):
    rows = [
        _sum("1+2"),
        "",
        {"sum": "skipped"},
        {"sum": "4+4", "value": 8.0, "how": ["4+4", "= 8 \u2028 \N{CHECK MARK}"]},
    ]
    problems = open_sums("train", train=rows)
    assert sorted(problems) == [
        Problem("train/1+2", "1+2", "3", "number", source="sums"),
        Problem("train/4+4", "4+4", "8", "number", (("4+4", "= 8 \u2028 \N{CHECK MARK}"), "8"), source="sums"),
    ]
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"index {index} is out of range for a source of 2"):
            problems[index]


def test_split_is_built_from_all_its_files(open_sums):
    problems = open_sums(one=[_sum("1+1")], two=[_sum("2+2"), _sum("3+3")])
    assert sorted(problem.id for problem in problems) == ["test/1+1", "test/2+2", "test/3+3"]


def test_missing_files_are_listed_with_their_addresses(open_sums, tmp_path):
    with pytest.raises(benchmark.BenchmarkError) as caught:
        open_sums("test", train=[_sum("1+1")])
    title, *errors = str(caught.value).split("\n  ")
    assert title == "sums (test) cannot be built:"
    assert errors == [
        f"{tmp_path / 'sums' / name} is missing; published at https://example.org/sums"
        for name in ("one.jsonl", "two.jsonl")
    ]
    with pytest.raises(benchmark.BenchmarkError, match=r"test\.jsonl is missing.*\n.*shown\.zip is missing"):
        benchmark.build(Pictures, split="test", data_dir=tmp_path)


def test_all_row_errors_are_listed_and_nothing_is_left_half_built(open_sums, tmp_path):
    rows = [_sum("1+1"), {"sum": "2+2", "value": True}, "{torn", ["no object"], {"value": 3}, {"sum": "", "value": 1}]
    with pytest.raises(benchmark.BenchmarkError) as caught:
        open_sums("train", train=rows)
    title, *errors = str(caught.value).split("\n  ")
    assert title == "sums (train) is not as published:"
    assert errors[0] == "train.jsonl, row 2: value is a boolean, not a string or a number"
    assert errors[1].startswith("train.jsonl, row 3: not JSON")
    assert errors[2] == "train.jsonl, row 4: a list, not an object"
    assert errors[3:] == ["train.jsonl, row 5: sum is missing", "train.jsonl, row 6: sum is empty"]
    assert not list(tmp_path.rglob("*.array_record*"))
    assert len(open_sums("train", train=rows[:1])) == 1


def test_split_is_rebuilt_when_its_files_change(open_sums):
    assert len(open_sums("train", train=[_sum("1+1")])) == 1
    assert len(open_sums("train", train=[_sum("1+1"), _sum("2+2")])) == 2
    with pytest.raises(benchmark.BenchmarkError, match="row 1: not JSON"):
        open_sums("train", train=["{torn"])


def test_repeated_ids_empty_splits_and_damaged_files_are_errors(open_sums, tmp_path):
    with pytest.raises(benchmark.BenchmarkError, match="published:\n  id 'train/1\\+1' appears in several rows$"):
        open_sums("train", train=[_sum("1+1"), _sum("2+2"), _sum("1+1")])
    with pytest.raises(benchmark.BenchmarkError, match="no problem in one.jsonl, two.jsonl"):
        open_sums("test", one=[{"sum": "skipped"}], two=[])
    _write_rows(tmp_path / "pictures" / "test.jsonl", [{"file": "1.png"}])
    (tmp_path / "pictures" / "shown.zip").write_text("no zip")
    with pytest.raises(benchmark.BenchmarkError, match="shown.zip: not a zip file"):
        benchmark.build(Pictures, split="test", data_dir=tmp_path)


def test_first_of_many_errors_are_listed(open_sums):
    with pytest.raises(benchmark.BenchmarkError, match=r"row 20: sum is missing\n  … and 5 more$"):
        open_sums("train", train=[{"value": 1}] * 25)


def test_splits_are_built_on_demand(open_sums, tmp_path):
    def built():
        return [split for split in Sums.FILES if Sums(split=split, data_dir=tmp_path).info.splits]

    open_sums("train", train=[_sum("1+1")], one=[_sum("2+2")], two=["{torn"])
    assert built() == ["train"]
    with pytest.raises(benchmark.BenchmarkError, match="two.jsonl, row 1: not JSON"):
        open_sums("test")
    assert built() == ["train"]
    open_sums("test", two=[_sum("3+3")])
    assert built() == ["train", "test"]
    # A built split opens without the published files.
    for name in ("train", "one", "two"):
        (tmp_path / "sums" / f"{name}.jsonl").unlink()
    assert [len(open_sums(split)) for split in ("train", "test", "")] == [1, 2, 2]


def test_unknown_split_is_rejected(open_sums):
    with pytest.raises(benchmark.BenchmarkError, match="sums has no split 'dev'; available: train, test"):
        open_sums("dev")


def test_unwritable_data_dir_is_reported(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(benchmark.BenchmarkError, match=r"sums \(test\) cannot be built: .*file/sums cannot be written"):
        benchmark.build(Sums, split="test", data_dir=tmp_path / "file")


def test_missing_files_are_downloaded(open_sums, server, tmp_path, monkeypatch):
    _write_rows(tmp_path / "published" / "here.jsonl", [_sum("1+1")])
    monkeypatch.setattr(Sums, "URLS", {"one.jsonl": f"{server}/here.jsonl"})
    # Files that are present are not downloaded.
    assert len(open_sums("test", two=[_sum("2+2")])) == 2
    assert (tmp_path / "sums" / "one.jsonl").read_bytes() == (tmp_path / "published" / "here.jsonl").read_bytes()


def test_failed_downloads_are_explained_and_leave_nothing(open_sums, server, tmp_path, monkeypatch):
    urls = {"one.jsonl": f"{server}/short.jsonl", "two.jsonl": f"{server}/nowhere.jsonl"}
    monkeypatch.setattr(Sums, "URLS", urls)
    with pytest.raises(benchmark.BenchmarkError) as caught:
        open_sums("test")
    _, short, nowhere = str(caught.value).split("\n  ")
    assert urls["one.jsonl"] in short and "incomplete transfer" in short
    assert urls["two.jsonl"] in nowhere and "404" in nowhere
    assert not (tmp_path / "sums" / "one.jsonl").exists() and not (tmp_path / "sums" / "two.jsonl").exists()


@pytest.mark.parametrize("unpacked", [False, True])
def test_images_are_stored_unchanged(tmp_path, unpacked):
    images = {"1.png": _image("red"), "2.png": _image("blue")}
    folder = tmp_path / "pictures"
    _write_rows(folder / "test.jsonl", [{"file": name} for name in images])
    if unpacked:
        (folder / "shown").mkdir()
        for name, image in images.items():
            (folder / "shown" / name).write_bytes(image)
    else:
        with zipfile.ZipFile(folder / "shown.zip", "w") as archive:
            for name, image in images.items():
                archive.writestr(f"shown/deeper/{name}", image)
    built = benchmark.build(Pictures, split="test", data_dir=tmp_path)
    problems = list(benchmark.BuiltSplit(built.as_data_source("test")))
    assert {problem.id: problem.images for problem in problems} == {n: (image, image) for n, image in images.items()}
    assert {problem.choices for problem in problems} == {("red", "blue, or green")}


def test_missing_and_damaged_images_are_reported(tmp_path):
    _write_rows(tmp_path / "pictures" / "test.jsonl", [{"file": "1.png"}, {"file": "2.png"}])
    with zipfile.ZipFile(tmp_path / "pictures" / "shown.zip", "w") as archive:
        archive.writestr("2.png", b"no picture")
    with pytest.raises(benchmark.BenchmarkError) as caught:
        benchmark.build(Pictures, split="test", data_dir=tmp_path)
    _, missing, damaged = str(caught.value).split("\n  ")
    assert missing == "test.jsonl, row 1: image 1.png is not in shown.zip"
    assert damaged.startswith("test.jsonl, row 2: image 2.png: ")
