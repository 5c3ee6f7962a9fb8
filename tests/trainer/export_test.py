"""A model is exported from any checkpoint of a run, without its data, and nothing in the run's folder changes."""

import json
import math
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from mig_jax import commands
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.learning.train_step import init_state
from mig_jax.models import lora
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import peft
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy.load import load_policy
from mig_jax.policy.save import save_policy
from mig_jax.records import metrics
from mig_jax.trainer import export as exports
from mig_jax.trainer.checkpointing import Checkpoints
from mig_jax.trainer.export import export
from mig_jax.trainer.fingerprints import fingerprint_params
from mig_jax.trainer.update import build_optimizer
from tests import tiny
from tools.device_table import free_port

SCORES = {2: 0.5, 4: 0.25, 6: None}
GENERATION = {"do_sample": True, "eos_token_id": [265, 266], "pad_token_id": 266, "temperature": 0.7, "top_p": 0.8}
CARD = "---\nlicense: apache-2.0\n---\n# Base\n"


def one_device():
    return sharding.make_mesh({}, devices=jax.devices()[:1])


def params_of(start, step):
    """Parameters that tell their step."""
    return jax.tree.map(lambda x: x + step / 64, start)


def write_run(workdir, config, *, scores=SCORES, mode="train"):
    """Write the checkpoints and metrics of a run that was stopped, without training; return its policy."""
    policy = load_policy(config.model, one_device(), seed=config.seed)
    fingerprints = fingerprint_params(policy, config, mode)
    state = init_state(policy.params, build_optimizer(config), policy.is_trainable)
    record = json.loads(json.dumps(config.to_dict() | {"mode": mode}))
    with Checkpoints(str(workdir), keep=9, keep_best=0, is_trainable=policy.is_trainable) as checkpoints:
        for step, score in scores.items():
            progress = {"done": step, "stream": {}, "eval_pending": False, "fingerprints": fingerprints}
            trained = state._replace(params=params_of(policy.params, step))
            checkpoints.save(trained, progress, record, score=score)
    with metrics.open_metrics(str(workdir), config=record, resume_step=None) as file:
        for step, score in {0: 0.125, **scores}.items():
            if score is not None:
                file.write(step, {"eval/sampled": score, "eval/greedy": 1.0, "eval/problems": 8})
    return policy


def export_on_one(workdir, **options):
    return export(str(workdir), devices=jax.devices()[:1], **options)


def read(folder):
    return hf_weights.load(folder, hf_config.read_config(folder))


def assert_step(folder, start, step):
    jax.tree.map(np.testing.assert_array_equal, read(folder), params_of(start, step))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a base model with a generation config and a license."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(tiny.get_quickstart().model.path, folder, dirs_exist_ok=True)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A stopped run, and the parameters that it has started from."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, write_run(workdir, tiny.get_quickstart(model__path=str(base))).params


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_newest_checkpoint_is_exported_and_the_run_is_left_alone(run, tmp_path):
    workdir, start = run
    (workdir / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()  # the run is writing it just now
    before = snapshot(workdir / "checkpoints")
    exported = export_on_one(workdir)
    assert exported == (f"{workdir}/model_step_6", 6) and snapshot(workdir / "checkpoints") == before
    assert_step(exported.folder, start, 6)
    again = export_on_one(workdir, output=str(tmp_path / "new" / "folder"))
    assert_step(again.folder, start, 6)


@pytest.mark.parametrize("options, step", [({"best": True}, 2), ({"step": 4}, 4), ({"step": 2}, 2)])
def test_checkpoint_is_chosen(run, tmp_path, options, step):
    exported = export_on_one(run[0], output=str(tmp_path), **options)
    assert exported.step == step
    assert_step(exported.folder, run[1], step)


def test_folder_is_that_of_a_finished_run(run, base, tmp_path):
    """It holds the tokenizer and the generation config of the base, and every file can be read by the group."""
    (tmp_path / "any").touch()
    folder = tmp_path / "out"
    export_on_one(run[0], output=str(folder))
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "mig_jax_config.json",
        "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert json.loads((folder / "generation_config.json").read_text()) == GENERATION | {"bos_token_id": None}
    assert {path.stat().st_mode for path in folder.iterdir()} == {(tmp_path / "any").stat().st_mode}


def test_parameters_are_read_on_several_devices(run, tmp_path):
    export(str(run[0]), step=4, output=str(tmp_path))
    assert_step(tmp_path, run[1], 4)


def test_overrides_change_the_export(run, tmp_path):
    export_on_one(run[0], output=str(tmp_path), overrides={"model.save_dtype": "bfloat16"})
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert json.loads((tmp_path / "mig_jax_config.json").read_text())["model"]["save_dtype"] == "bfloat16"


def test_evaluations_after_the_checkpoint_count(tmp_path):
    """An evaluation that a stop has delayed is in metrics.jsonl only; NaN is none; the newest of equal ones wins."""
    write_run(tmp_path, tiny.get_config(), scores={1: 0.5, 2: math.nan, 3: None, 4: 0.5})
    with open(tmp_path / metrics.FILE_NAME, "a") as file:
        file.write(json.dumps({"step": 3, "eval/sampled": 0.75}) + "\n")
    assert exports.stored_checkpoints.read_scores(str(tmp_path)) == {1: 0.5, 2: None, 3: 0.75, 4: 0.5}
    assert exports.stored_checkpoints.choose_step(str(tmp_path), best=True) == 3
    (tmp_path / metrics.FILE_NAME).unlink()
    assert exports.stored_checkpoints.choose_step(str(tmp_path), best=True) == 4


def test_best_checkpoint_that_was_not_kept_is_reported(tmp_path, capsys, monkeypatch):
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    write_run(tmp_path, tiny.get_config(), scores={1: 0.25, 2: 0.5})
    commands.export(str(tmp_path), step=None, best=True, output="", overrides={})
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"the model after step 2 is in {tmp_path}/model_step_2;")
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    commands.export(str(tmp_path), step=None, best=True, output="", overrides={})
    note, last = capsys.readouterr().out.splitlines()[-2:]
    assert note.startswith("eval/sampled was 0.500 after step 2, whose checkpoint was not kept; checkpoint.keep_best=1")
    assert last.startswith(f"the model after step 1 is in {tmp_path}/model_step_1;")


def test_only_the_writing_of_a_model_can_be_changed(run, tmp_path):
    """Other values would be recorded as those of the run."""
    with pytest.raises(UserError, match=r"^loss.alpha: the config of an export is that of its run; only model.path, "):
        export_on_one(run[0], output=str(tmp_path / "out"), overrides={"loss.alpha": 2.0, "model.path": "/x"})
    assert not (tmp_path / "out").exists()


def test_missing_checkpoints_are_reported_with_those_there_are(run, tmp_path):
    listed = r"there are those of 2 \(eval/sampled 0.500\), 4 \(eval/sampled 0.250\), 6$"
    with pytest.raises(UserError, match=f"has no checkpoint of step 5; {listed}"):
        export_on_one(run[0], step=5)
    with pytest.raises(UserError, match="has no checkpoints; give the workdir of a run"):
        export_on_one(tmp_path / "nowhere")
    write_run(tmp_path / "new", tiny.get_config(), scores={3: None})
    with pytest.raises(UserError, match="was evaluated; give the step of one of 3$"):
        export_on_one(tmp_path / "new", best=True)
    assert not (tmp_path / "nowhere").exists()


def test_damaged_checkpoint_is_reported_and_stays(run, tmp_path):
    shutil.copytree(run[0], tmp_path, dirs_exist_ok=True)
    file = next((tmp_path / "checkpoints" / "6" / "state").rglob("manifest.ocdbt"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"checkpoints/6 is damaged \(files are missing or changed: .*another one"):
        export_on_one(tmp_path, output=str(tmp_path / "out"))
    assert file.exists() and not (tmp_path / "out").exists()
    assert export_on_one(tmp_path, output=str(tmp_path / "out"), step=4).step == 4


def test_output_holds_a_model_or_nothing(run, base, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    for output, message in (
        (tmp_path / "notes", "holds something other than a model"),
        (base, "is the folder of the base model"),
        (tmp_path / "notes" / "README.md", "cannot be written: File exists"),
        (run[0], "holds something other than a model"),
    ):
        with pytest.raises(UserError, match=message):
            export_on_one(run[0], output=str(output))
    assert (tmp_path / "notes" / "README.md").read_text() == "mine"


@pytest.fixture(scope="module")
def adapter_run(base, tmp_path_factory):
    workdir, own_base = tmp_path_factory.mktemp("adapters"), tmp_path_factory.mktemp("own") / "base"
    shutil.copytree(base, own_base)
    config = tiny.get_quickstart(model__path=str(own_base), model__lora__rank=2, model__lora__save="adapter")
    return workdir, own_base, write_run(workdir, config)


def test_adapters_are_exported_in_the_format_of_peft(adapter_run, tmp_path):
    workdir, base, policy = adapter_run
    export_on_one(workdir, step=4, output=str(tmp_path))
    assert json.loads((tmp_path / "generation_config.json").read_text()) == GENERATION | {"bos_token_id": None}
    assert not (tmp_path / "config.json").exists() and (tmp_path / "tokenizer.json").exists()
    assert peft.find_base(tmp_path) == str(base) and "library_name: peft" in (tmp_path / "README.md").read_text()
    loaded = load_policy(tiny.get_quickstart(model__path=str(tmp_path)).model, one_device(), seed=0)
    assert loaded.tokenizer.eos_ids == (265, 266) and loaded.tokenizer.declared_pad_id == 266
    jax.tree.map(np.testing.assert_array_equal, loaded.params, trained_adapters(policy, 4))


def test_adapters_can_be_exported_merged(adapter_run, tmp_path):
    workdir, _, policy = adapter_run
    export_on_one(workdir, step=4, output=str(tmp_path), overrides={"model.lora.save": "merged"})
    want = lora.merge(trained_adapters(policy, 4), policy.config)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), read(tmp_path), want)


def trained_adapters(policy, step):
    """Return the parameters of a run whose adapters alone are those of a step."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x + step / 64 if lora.is_adapter(jax.tree_util.keystr(path, simple=True, separator="/")) else x,
        policy.params,
    )


def test_base_that_has_changed_is_refused(adapter_run, tmp_path):
    """Adapters belong to the parameters that they were trained with; a copy of these will do."""
    workdir, base, policy = adapter_run
    shutil.copytree(base, tmp_path / "moved")
    tensors = (base / "model.safetensors").read_bytes()
    config = tiny.get_quickstart(model__path=str(base))
    changed = load_policy(config.model, one_device(), seed=0)
    try:
        save_policy(changed, params_of(changed.params, 1), str(base), config=config)
        with pytest.raises(UserError, match="have changed since the run was started"):
            export_on_one(workdir, output=str(tmp_path / "out"))
        options = {"output": str(tmp_path / "out"), "overrides": {"model.path": str(tmp_path / "moved")}}
        export_on_one(workdir, step=4, **options)
    finally:
        (base / "model.safetensors").write_bytes(tensors)
    assert peft.find_base(tmp_path / "out") == str(tmp_path / "moved")


def test_run_with_an_sft_stage_starts_from_its_model():
    config = tiny.get_config(sft__steps=3, model__attention="splash", model__remat="layer")
    start = exports.start_model(config, "/run", "train")
    assert (start.path, start.tokenizer) == ("/run/sft/model", "")
    assert (start.attention, start.remat, config.model.attention) == ("xla", "none", "splash")
    assert exports.start_model(config, "/run/sft", "sft").tokenizer == "characters"


def test_config_of_a_checkpoint_is_read(monkeypatch):
    warnings = []
    monkeypatch.setattr(exports.logging, "warning", lambda text, *values: warnings.append(text % values))
    record = json.loads(json.dumps(tiny.get_config(seed=7, model__lora__modules=("query",)).to_dict()))
    record["reward"]["by_std"] = True
    del record["model"]["save_dtype"]
    config = exports.config_of_record(record, {"model.path": "/moved"})
    assert (config.seed, config.model.lora.modules, config.model.path) == (7, ("query",), "/moved")
    assert config.model.save_dtype == "" and "by_std" not in config.reward
    assert warnings == ["the run was started by another version, with keys that are left out: reward.by_std"]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(run, tmp_path):
    workdir, address = run[0], f"--coordinator=127.0.0.1:{free_port()}"
    base = [sys.executable, "-m", "mig_jax.main", "export", f"--workdir={workdir}", "--best"]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    ranks = [[f"--output={tmp_path}/two", address, "--num_processes=2", f"--process_id={rank}"] for rank in (0, 1)]
    processes = [subprocess.Popen([*base, *rank], env=env, stdout=subprocess.PIPE, text=True) for rank in ranks]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "the model after step 2 is in" in printed[0] and "the model" not in printed[1]
    export_on_one(workdir, step=2, output=str(tmp_path / "one"))
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {path.name for path in (tmp_path / "two").iterdir()}
    for name in names - {"README.md"}:  # that names the command
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
