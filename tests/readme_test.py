"""The README is short, names the rooms that exist, and its examples work."""

import json
import re
from pathlib import Path

import jax
import pytest
from mig_jax.configs import default
from ml_collections import ConfigDict

import mig_jax
from mig_jax import assets, config_sources
from mig_jax.data import problem_files
from mig_jax.text import response_format
from tests import tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def code_lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip() and not line.startswith("#")]


def test_at_most_120_lines():
    assert len(README.splitlines()) <= 120


def test_snippet_runs_and_prints_what_it_says(capsys):
    (code,) = (block for block in blocks("python") if "watermark_gains" in block)
    assert len(code_lines(code)) <= 12
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    for line, said in zip(printed, re.findall(r"print\(.*?\) +# (\[.*?\])", code), strict=True):
        assert line.split() == said.split()


def test_training_from_python_has_six_lines_and_its_names_exist():
    (code,) = (block for block in blocks("python") if "mig_jax.train" in block)
    assert len(code_lines(code)) <= 6 and compile(code, "README.md", "exec")
    assert {*re.findall(r"\bmig_jax\.(\w+)", code)} <= {*mig_jax.__all__}
    assert all(hasattr(mig_jax.Run, name) for name in re.findall(r"\brun\.(\w+)", code))


@pytest.mark.slow  # api_test makes the same calls
def test_training_from_python_runs(tmp_path, monkeypatch, capsys):
    (code,) = (block for block in blocks("python") if "mig_jax.train" in block)
    for old, new in {'"quickstart"': "small", "/tmp": str(tmp_path), "steps=10": "steps=1"}.items():
        assert old in code
        code = code.replace(old, new)
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    exec(code, {"small": tiny.get_quickstart()})
    assert "held-out accuracy (start → end): sampled" in capsys.readouterr().out
    assert (tmp_path / "mig_python_eval" / "results.md").exists()


def test_config_has_ten_lines_and_the_keys_exist():
    (code,) = (block for block in blocks("python") if "get_config" in block)
    assert len(code_lines(code)) <= 10
    namespace = {}
    exec(code, namespace)
    assert isinstance(namespace["get_config"](), ConfigDict)


def test_response_is_well_formed_and_row_can_be_read(tmp_path):
    (block,) = (block for block in blocks("text") if "<think>" in block)
    response, row = block.strip().rsplit("\n\n", 1)
    parsed = response_format.parse_response(response)
    assert parsed.is_well_formed and parsed.answer == json.loads(row)["answer"]
    (tmp_path / "train.jsonl").write_text(row)
    columns = {name: name for name in ("question", "answer", "kind", "steps")}
    (problem,) = problem_files.read_problems("jsonl", str(tmp_path / "train.jsonl"), columns=columns)
    assert (problem.answer, problem.kind, problem.solution) == ("5", "number", (("3 + 2 = 5",), "5"))


def test_ci_runs_the_readmes_test_command():
    (command,) = re.findall(r"^(pip install \S+ '?\.\[test\]'? && pytest)\b", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_layout_names_every_room_and_no_other():
    layout = README.split("## Layout")[1]
    named = set(re.findall(r"^  (\w+)/ ", layout, re.MULTILINE))
    assert named == {file.parent.name for file in (ROOT / "mig_jax").glob("*/__init__.py")}
    assert not [name for name in re.findall(r"\b[a-z0-9_]+\.py", layout) if not (ROOT / "mig_jax" / name).exists()]
    (folders,) = re.findall(r"^(configs/ .*)$", layout, re.MULTILINE)
    assert all((ROOT / folder).is_dir() for folder in folders.split())


def test_links_and_pictures_are_there():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_no_placeholder_is_left():
    assert not re.findall(r"^[A-Z]{4,}$|\bTODO\b", README, re.MULTILINE)


def test_starting_policy_is_small_and_has_its_config():
    config = default.get_config()
    config_sources.apply_run_config(config, str(assets.QUICKSTART / "mig_jax_config.json"))
    assert config.data.train.startswith("chain:terms=7") and config.reward.process_eps.nats == 0.01
    files = assets.QUICKSTART.glob("*")
    assert sum(file.stat().st_size for file in files) <= 3 * 2**20
