"""Parts of tables, of modules and of files; their copies."""

import json
import math

import pytest

from mig_jax import parts
from mig_jax.errors import UserError

TABLE = {"clip": "ours", "dual_clip": "ours, too"}


def write(folder, text="def shortness(sample):\n    return -sample\n", name="mine.py"):
    file = folder / name
    file.write_text(text)
    return file


def test_names_of_the_table_are_found_first():
    assert parts.find_part("clip", TABLE, key="loss.policy_loss") == "ours"
    assert not parts.is_own("clip") and parts.part_file("clip") is None


def test_part_of_a_module():
    assert parts.find_part("math:sqrt", TABLE, key="k") is math.sqrt
    assert parts.is_own("math:sqrt") and parts.part_file("math:sqrt") is None


def test_part_of_a_file_is_loaded_once(tmp_path, monkeypatch):
    file = write(tmp_path, "class Group:\n    values = [1]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = parts.find_part("mine.py:Group.values", TABLE, key="k")
    assert found == [1]
    for spec in (f"{file}:Group.values", "~/mine.py:Group.values"):
        assert parts.find_part(spec, TABLE, key="k") is found
        assert parts.absolute_spec(spec) == f"{file}:Group.values"
    assert parts.absolute_spec("=mine.py:Group") == f"={file}:Group" and parts.absolute_spec("=5") == "=5"
    assert parts.files_of({"kind": "=mine.py:Group"}) == [file]
    assert parts.part_name("mine.py:Group.values") == "Group.values"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_dataclasses_of_a_file_find_their_module(tmp_path):
    text = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
    assert parts.find_part(f"{write(tmp_path, text)}:A", {}, key="k")().x == 1


@pytest.mark.parametrize(
    "spec, match",
    [
        (
            "clp",
            r"loss.policy_loss='clp': choose one of clip, dual_clip \(did you mean clip\?\); or give path/file.py:",
        ),
        ("mine.py", r"as mine\.py:NAME"),
        ("nowhere.py:f", "no such file: .*nowhere.py"),
        ("no_such_package.part:f", "no module 'no_such_package.part' can be imported"),
        ("mine:shortness", r"no module 'mine'.*for the file here, give mine\.py:shortness"),
        ("mine.py:shortnes", r"mine\.py has no 'shortnes' \(did you mean shortness\?\)"),
        ("broken.py:f", r"cannot be loaded: .*broken\.py:2: ZeroDivisionError: division by zero"),
        ("syntax.py:f", r"cannot be loaded: .*syntax\.py:1: SyntaxError"),
        ("sibling.py:f", "a file stands alone: put mine.py into it"),
    ],
)
def test_errors_name_key_and_place(spec, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    write(tmp_path, "def f():\n    1 / 0\n\n\nf()\n", "broken.py")
    write(tmp_path, "def f(:\n", "syntax.py")
    write(tmp_path, "from mine import shortness\n", "sibling.py")
    with pytest.raises(UserError, match=match):
        parts.find_part(spec, TABLE, key="loss.policy_loss")


def test_signatures():
    assert parts.signature_error(lambda ratio, other, *, eps: 0, "ratio", "other", eps=1) is None
    assert parts.signature_error(math.sqrt, "x") is None
    assert "must be a function of (x), not a int" in str(parts.signature_error(3, "x"))
    assert "must take (a, b), but takes (a)" in str(parts.signature_error(lambda a: 0, "a", "b"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """The files that were run before are known per test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_copies_of_strangers_are_not_run(tmp_path, monkeypatch, capsys):
    file = write(tmp_path, "def f():\n    return 1\n", "stranger.py")
    parts.save_copies({"loss": f"{file}:f"}, tmp_path / "model" / "parts")
    file.unlink()
    parts.use_copies(tmp_path / "model" / "parts")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another_machine"))
    with pytest.raises(
        UserError, match=r"k='.*': .*stranger.py is gone, and its copy .* is code that was never run here"
    ):
        parts.find_part(f"{file}:f", {}, key="k")
    monkeypatch.setenv("MIG_JAX_TRUST_PARTS", "1")
    assert parts.find_part(f"{file}:f", {}, key="k")() == 1
    assert "uses the run's copy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spec", ["{folder}/parts/theirs.py:F", "theirs/parts/theirs.py:F", "=./theirs/../sibling.py:K"]
)
def test_stored_configs_name_no_code_that_comes_with_them(spec, tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    (folder / "parts").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write(folder / "parts", name="theirs.py")
    write(tmp_path, "K = 1", name="sibling.py")
    config = {"reward": {"credit": spec.format(folder=folder)}}
    with pytest.raises(UserError, match="config.json names code that comes with it and was never run here, .*py"):
        parts.check_stored(config, folder / "mig_jax_config.json")
    parts.check_stored({"reward": {"credit": f"{tmp_path}/sibling.py:K"}}, folder / "mig_jax_config.json")  # as runs do
    monkeypatch.setenv("MIG_JAX_TRUST_PARTS", "1")
    parts.check_stored(config, folder / "mig_jax_config.json")


def test_copies_replace_files_that_are_gone(tmp_path, capsys):
    file = write(tmp_path, "def f():\n    return 1\n", "gone.py")
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", "def f():\n    return 2\n", "gone.py")
    config = {"reward": {"outcomes": {f"{file}:f": 1.0}}, "log": {"writers": [f"{other}:f", "jsonl"]}, "steps": 3}
    assert parts.files_of(config) == [file, other]
    parts.save_copies(config, tmp_path / "parts")
    assert parts.use_copies(tmp_path / "parts") == []
    index = json.loads((tmp_path / "parts" / "parts.json").read_text())
    assert [entry["copy"] for entry in index.values()] == ["gone.py", "gone_1.py"]
    file.unlink()
    other.write_text("def f():\n    return 3\n")
    (warning,) = parts.use_copies(tmp_path / "parts")
    assert f"{other} has changed" in warning and "gone_1.py" in warning
    assert parts.find_part(f"{file}:f", {}, key="k")() == 1
    assert "uses the run's copy" in capsys.readouterr().err
    assert parts.find_part(f"{other}:f", {}, key="k")() == 3
    # The copies of a run can be copied on, from it to its model.
    parts.save_copies(config, tmp_path / "model" / "parts")
    assert "return 1" in (tmp_path / "model" / "parts" / "gone.py").read_text()


def test_labels_leave_the_folder_out():
    assert parts.part_label("~/secret/mine.py:f") == "mine.py:f" and parts.part_label("clip") == "clip"


def test_no_copies_without_own_parts(tmp_path):
    parts.save_copies({"loss": {"policy_loss": "clip"}, "data": {"train": "chain:terms=7"}}, tmp_path / "parts")
    assert not (tmp_path / "parts").exists() and parts.use_copies(tmp_path / "parts") == []
