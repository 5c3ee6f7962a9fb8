"""The report of `mig-jax aot`, and the command."""

import json
import subprocess
import sys
from pathlib import Path

from mig_jax import commands
from mig_jax.aot import report as aot_report
from mig_jax.aot.collectives import Collective, Traffic
from mig_jax.aot.compile import CompiledProgram
from tests import tiny

ROOT = Path(__file__).parents[2]
GIB = 2**30


def test_program_that_does_not_fit_is_reported_with_suggestions():
    parts = {"parameters": 2 * GIB, "optimizer": 4 * GIB, "batch": GIB}
    collectives = {Collective("all-gather", (8, 2)): Traffic(7, 3 * GIB)}
    config = tiny.get_config(mesh__data=1, optimizer__microbatches=4)
    available = 15.75 * GIB
    section = aot_report.describe(CompiledProgram(parts, 20 * GIB, collectives, None), "update", config, available)
    assert (section["fits"], section["gib"][aot_report.REST]) == (False, 13.0)
    assert section["turn"][:3] == ["model.compute_dtype=bfloat16", "model.remat=matmuls", "optimizer.microbatches=8"]
    assert "mesh.fsdp higher, on more devices" in section["turn"] and "model.lora.rank=16" in section["turn"]
    small = CompiledProgram(parts, 15 * GIB, collectives, None)
    assert aot_report.describe(small, "update", config, available)["turn"] == []
    report = {
        "programs": {"update": section}, "hbm_gib": 15.75, "most_questions": 0, "unit": 3, "topology": "v5e:2x2",
        "devices": 4, "device_kind": "TPU v5 lite", "jaxlib": "1", "mesh": {"fsdp": 4}, "weights": 3e9,
        "unused_weights": 0,
        "limited_by": "update", "platform": "gpu",
        "model": config.model.to_dict() | {"attention": "xla"},
        "rollout": config.rollout.to_dict(), "optimizer": config.optimizer.to_dict(),
        "flops": {"update": 2e15}, "floor_seconds": {"update": 4.0}, "decode_memory_seconds": 1.5,
        "chip": {"tflops": 197.0, "gb_per_s": 800.0, "source": "a data sheet"},
    }  # fmt: skip
    page = aot_report.render(report)
    assert "**Compiled, not run**" in page and "attention xla (in place of cuDNN's, which takes less memory" in page
    assert "| update | 2.00 | 4.00 | 1.00 | 13.00 | 20.00 | 4.25 too much |" in page
    assert "The program `update` does not fit. Try: model.compute_dtype=bfloat16; " in page
    assert "| all-gather | update | 8 × 2 | 7 | 3.000 |" in page
    assert "rollout.questions must be a multiple of 3" in page
    assert "| update | 2 | 4 |" in page and "No number of questions fits." in page
    assert "that fit were not searched for" in aot_report.render(report | {"most_questions": None})


def test_suggestions_match_the_largest_part():
    config = tiny.get_config(model__compute_dtype="bfloat16", model__remat="layer")
    assert aot_report.suggestions("KV cache", "decode", config)[0] == "rollout.questions lower"
    assert aot_report.suggestions("parameters", "decode", config)[0] == "mesh.fsdp=-1, mesh.data=1"
    assert aot_report.suggestions("rollout parameters", "decode", config)[-1] == "rollout.gather_params=False"
    assert "optimizer.state_dtype=bfloat16" in aot_report.suggestions("optimizer", "update", config)
    assert "loss.kl_reference_on_host=True" in aot_report.suggestions("reference", "decode", config)
    assert "reward.max_variants lower" in aot_report.suggestions(aot_report.REST, "score", config)
    assert aot_report.suggestions(aot_report.REST, "update", config)[0] == "optimizer.microbatches=2"


def test_most_units_is_what_fits_in_every_program():
    needed = {"decode": lambda n: 10 * n, "update": lambda n: 20 + 8 * n, "score": lambda n: 3 * n}
    peaks = {name: nbytes(4) for name, nbytes in needed.items()}
    most_units = aot_report.most_units
    assert most_units(lambda name, n: needed[name](n), peaks, 100, start=4) == (10, "update")
    assert most_units(lambda name, n: needed[name](n), peaks, 200, start=4) == (20, "decode")
    assert most_units(lambda name, n: needed[name](n), peaks, 5, start=4) == (0, "update")


def test_command_prints_and_writes_report(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(aot_report, "compile_run", lambda config, topology: {"on": topology})
    monkeypatch.setattr(aot_report, "render", lambda report: f"# on {report['on']}\n")
    commands.aot(tiny.get_config(), "v5e:2x2", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "aot.json").read_text()) == {"on": "v5e:2x2"}
    assert (tmp_path / "out" / "aot.md").read_text() in capsys.readouterr().out


def test_command_reports_all_missing_flags():
    command = [sys.executable, "-m", "mig_jax.main", "aot"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0 and "aot needs --config=FILE.py and --topology=NAME" in done.stderr
