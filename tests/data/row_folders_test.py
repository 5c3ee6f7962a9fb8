"""Rows of several files: shards, patterns, compressed files, folders, clones from the hub, and the hub itself."""

import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pytest
from pyarrow import parquet

from mig_jax.data import sources
from mig_jax.data.problem_files import read_problems
from mig_jax.errors import UserError

COLUMNS = {"id": "id", "question": "q", "answer": "a", "source": "source"}


def rows(*answers):
    return [{"q": "?", "a": answer} for answer in answers]


def write(path: Path, *answers) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, rows(*answers)))
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows(*answers)), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def answers(form, path, **options):
    return [problem.answer for problem in read_problems(form, str(path), columns=COLUMNS, **options)]


def test_shards(tmp_path):
    write(tmp_path / "train-00000-of-00002.jsonl", "1", "2")
    write(tmp_path / "train-00001-of-00002.jsonl.gz", "3")
    write(tmp_path / "notes.txt", "9")
    problems = read_problems("jsonl", str(tmp_path / "train-*"), columns=COLUMNS)
    assert [(p.id, p.answer) for p in problems] == [("train-*:1", "1"), ("train-*:2", "2"), ("train-*:3", "3")]
    assert {p.source for p in problems} == {"train"}
    assert answers("jsonl", tmp_path) == ["1", "2", "3"]
    write(tmp_path / "deep" / "er" / "test-0.jsonl", "4")
    assert answers("jsonl", tmp_path / "**" / "test-*.jsonl") == ["4"]
    write(tmp_path / "test.jsonl", "5")
    with pytest.raises(UserError, match="has files of test, train: name some, as jsonl:.*/test*"):
        answers("jsonl", tmp_path)
    for name, error in (("dev-*.jsonl", "no such files"), ("*.csv", "no such files"), ("none.jsonl", "no such file")):
        assert sources.source_name_error(f"jsonl:{tmp_path / name}") == error
    assert sources.source_name_error(f"jsonl:{tmp_path / 'train-*'}") is None
    assert sources.source_name_error(f"parquet:{tmp_path}") == f"{tmp_path} has no .parquet files"


def test_form_wins_over_suffix(tmp_path):
    path = write(tmp_path / "rows.txt", "1", "2")
    assert answers("jsonl", path) == ["1", "2"] and answers("json", path) == ["1", "2"]
    assert answers("json", write(tmp_path / "rows.json", "1", "2", "3")) == ["1", "2", "3"], "JSON lines"
    (tmp_path / "rows.data").write_text("q\ta\n?\t4\n")
    assert answers("tsv", tmp_path / "rows.data") == ["4"]
    (tmp_path / "list.json.gz").write_bytes(gzip.compress(json.dumps(rows("5")).encode()))
    assert answers("json", tmp_path / "list.json.gz") == ["5"]


CARD = """---
license: mit
configs:
- config_name: socratic
  data_files:
  - split: train
    path: socratic/train-*
- config_name: main
  default: true
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: [main/test-*]
---
# Cards
"""


def test_clone_with_a_card(tmp_path):
    folder = tmp_path / "gsm8k"
    write(folder / "main" / "train-00000-of-00001.parquet", "1", "2")
    write(folder / "main" / "test-00000-of-00001.parquet", "3")
    write(folder / "socratic" / "train-00000-of-00001.parquet", "4")
    (folder / "README.md").write_text(CARD)
    assert answers("hf", folder) == ["1", "2"] and answers("hf", folder, purpose="test") == ["3"]
    assert answers("hf", f"{folder}@test") == ["3"] and answers("hf", f"{folder}:socratic@train") == ["4"]
    assert read_problems("hf", str(folder), columns=COLUMNS)[0].source == "gsm8k"
    with pytest.raises(UserError, match="no split 'dev'; available: train, test"):
        answers("hf", f"{folder}@dev")
    with pytest.raises(UserError, match="no config 'mian'; available: main, socratic"):
        answers("hf", f"{folder}:mian@train")
    (folder / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(UserError, match="header is not YAML"):
        answers("hf", folder)


@pytest.mark.parametrize(
    "data_dir, path", [("", "../rows.jsonl"), ("", "/etc/passwd"), ("..", "rows.jsonl"), ("/etc", "passwd")]
)
def test_card_names_no_files_outside_of_its_folder(data_dir, path, tmp_path):
    write(tmp_path / "rows.jsonl", "1")
    write(tmp_path / "clone" / "rows.jsonl", "2")
    card = tmp_path / "clone" / "README.md"
    card.write_text(f"---\nconfigs:\n- data_dir: '{data_dir}'\n  data_files: {path}\n---\n")
    with pytest.raises(UserError, match=f"README.md: {path} is not inside of"):
        answers("hf", tmp_path / "clone")
    card.write_text("---\nconfigs: 5\n---\n")
    assert answers("hf", tmp_path / "clone") == ["2"]


def test_clone_without_a_card(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", "1")
    write(tmp_path / "data" / "train-00001-of-00002.parquet", "2")
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", "3")
    write(tmp_path / ".cache" / "train.jsonl", "9")
    assert answers("hf", tmp_path) == ["1", "2"] and answers("hf", tmp_path, purpose="test") == ["3"]
    plain = tmp_path / "plain"
    write(plain / "all.jsonl", "1")
    assert answers("hf", plain) == ["1"]
    (plain / "all.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(UserError, match="all.jsonl is only a pointer of git-lfs: run `git lfs pull`"):
        answers("hf", plain)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no data files"):
        answers("hf", tmp_path / "empty")


class FakeTable:
    """What the `datasets` package gives of a split."""

    def __init__(self, rows):
        self.rows = rows

    def with_format(self, name):
        assert name == "arrow"
        return self

    def iter(self, size):
        yield pyarrow.Table.from_pylist(self.rows)


def test_dataset_of_the_hub(monkeypatch):
    loaded = []

    def load_dataset(name, config, split):
        loaded.append((name, config, split))
        return FakeTable(rows("1", "2"))

    package = SimpleNamespace(
        get_dataset_config_names=lambda name: ["main", "socratic"],
        get_dataset_split_names=lambda name, config: ["train", "test"],
        load_dataset=load_dataset,
    )
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert sources.source_name_error("hf:openai/gsm8k@train") is None
    assert answers("hf", "openai/gsm8k@train") == answers("hf", "openai/gsm8k:socratic", purpose="test") == ["1", "2"]
    assert loaded == [("openai/gsm8k", "main", "train"), ("openai/gsm8k", "socratic", "test")]
    with pytest.raises(UserError, match="no split 'dev'; available: train, test"):
        answers("hf", "openai/gsm8k@dev")

    def fail(name):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(package, "get_dataset_config_names", fail)
    with pytest.raises(UserError, match="hf:openai/gsm8k cannot be loaded .ConnectionError: Couldn't reach.*clone it"):
        answers("hf", "openai/gsm8k@train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the datasets package \(pip install 'mig_jax\[datasets\]'\)"):
        answers("hf", "openai/gsm8k@train")
    assert sources.source_name_error("hf:a/b/c") == "no such folder, and no name of the hub such as openai/gsm8k"


def test_real_datasets_package(tmp_path):
    """The package itself reads a folder in its own cache; skipped where it is not installed."""
    datasets = pytest.importorskip("datasets")
    from mig_jax.data import hub_datasets

    write(tmp_path / "data" / "train.jsonl", "1", "2")
    named = hub_datasets.HubName(str(tmp_path / "data"), "", "train")
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    assert [row.values["a"] for row in hub_datasets._download_rows(named, "train")] == ["1", "2"]
