"""The model of a finished SFT stage is used only for the config that it was trained with."""

import shutil

import jax
import pytest

from mig_jax.check_config import ConfigError
from mig_jax.trainer import sft_stage, train
from tests import tiny

SETTINGS = {"sft__steps": 2, "sft__peak_lr": 1e-3, "rollout__max_new_tokens": 32}


def run_stage(workdir, **changes):
    config = tiny.get_config(**(SETTINGS | changes))
    return train.run_sft_stage(config, str(workdir), jax.devices()[:1], lambda: False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "sft"
    start = run_stage(workdir)
    assert start.path == str(workdir / "model") and (workdir / "model" / "config.json").exists()
    return workdir


@pytest.fixture
def no_training(monkeypatch):
    """Fail if the stage is run again."""
    monkeypatch.setattr(train, "run", lambda *args, **options: pytest.fail("the stage is run again"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"steps": 7, "optimizer__peak_lr": 0.5, "optimizer__decay": "cosine", "optimizer__updates_per_rollout": 2},
        {"optimizer__minibatches": 2, "optimizer__microbatches": 2, "optimizer__logprob_tokens": 3},
        {
            "loss__alpha": 0.5,
            "loss__gamma": 0.0,
            "loss__kl_coef": 0.1,
            "loss__ratio": "sequence",
            "loss__clip_low": 0.1,
        },
        {"reward__credit": "final", "reward__max_steps": 2, "reward__credit_args__threshold": 0.1},
        {"rollout__questions": 4, "rollout__group_size": 4, "rollout__temperature": 0.7, "rollout__max_resamples": 1},
        {"eval__samples": 2, "log__every": 2, "checkpoint__every": 3, "verifier__workers": 2, "data__read_ahead": 1},
        {"data__eval": "chain:terms=2", "data__eval_size": 4, "data__eval_seed": 1, "data__variants": "x.jsonl"},
        {"sft__data": "chain:terms=3,slip_prob=0.25", "data__train": "chain:terms=5"},
        {"sft__data_size": 64, "data__train_size": 32},
        {"model__remat": "layer", "model__lora__save": "adapter"},
    ],
)
def test_finished_stage_is_used_whatever_the_rest_of_the_run_is(finished, no_training, changes):
    assert run_stage(finished, **changes).path == str(finished / "model")


@pytest.mark.parametrize(
    "changes, difference",
    [
        ({"seed": 1}, "seed: 0 before, 1 now"),
        ({"sft__steps": 3}, "sft.steps: 2 before, 3 now"),
        ({"sft__peak_lr": 1e-2}, "sft.peak_lr: 0.001 before, 0.01 now"),
        ({"sft__batch_size": 8}, "sft.batch_size: 16 before, 8 now"),
        ({"data__train": "chain:terms=4"}, "sft.data: 'chain:terms=3,slip_prob=0.25' before, 'chain:terms=4' now"),
        ({"sft__data": "chain:terms=4"}, "sft.data: 'chain:terms=3,slip_prob=0.25' before, 'chain:terms=4' now"),
        ({"data__train_size": 32}, "sft.data_size: 64 before, 32 now"),
        ({"sft__data_size": 32}, "sft.data_size: 64 before, 32 now"),
        ({"data__max_answer_tokens": 3}, "data.max_answer_tokens: 4 before, 3 now"),
        ({"data__system_prompt": "format"}, "data.system_prompt: '' before, 'format' now"),
        ({"model__path": "other/model"}, "model.path: '' before, 'other/model' now"),
        ({"model__init__width": 32}, "model.init.width: 16 before, 32 now"),
        ({"model__lora__rank": 2}, "model.lora.rank: 0 before, 2 now"),
        ({"model__save_dtype": "bfloat16"}, "model.save_dtype: '' before, 'bfloat16' now"),
        ({"model__vision__freeze": False}, "model.vision.freeze: True before, False now"),
        ({"optimizer__weight_decay": 0.1}, "optimizer.weight_decay: 0.0 before, 0.1 now"),
        ({"optimizer__warmup_steps": 1}, "optimizer.warmup_steps: 0 before, 1 now"),
        ({"rollout__max_new_tokens": 40}, "rollout.max_new_tokens: 32 before, 40 now"),
        ({"loss__aggregate": "responses"}, "loss.aggregate: 'tokens' before, 'responses' now"),
    ],
)
def test_finished_stage_of_another_config_is_refused(finished, no_training, changes, difference):
    with pytest.raises(ConfigError) as refused:
        run_stage(finished, **changes)
    assert str(refused.value) == (
        f"{finished} was started with a different config; use a new workdir, delete {finished} or restore these "
        f"values:\n  {difference}"
    )


def test_all_differences_are_listed(finished, no_training):
    with pytest.raises(ConfigError, match=r"(?s)seed: .*\n.*sft\.steps: "):
        run_stage(finished, seed=1, sft__steps=3)


def test_model_without_a_run_config_is_refused(finished, no_training, tmp_path):
    shutil.copytree(finished / "model", tmp_path / "model")
    (tmp_path / "model" / "mig_jax_config.json").unlink()
    with pytest.raises(ConfigError, match=f"has no mig_jax_config.json.*delete {tmp_path}$"):
        run_stage(tmp_path)


def test_stage_that_is_not_finished_is_run(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    ran = []
    monkeypatch.setattr(train, "run", lambda config, workdir, *, mode, **options: ran.append((config, workdir, mode)))
    run_stage(tmp_path, sft__data="chain:terms=2", sft__data_size=9, optimizer__minibatches=2)
    ((config, workdir, mode),) = ran
    assert (workdir, mode, config.steps, config.optimizer.decay) == (str(tmp_path), "sft", 2, "cosine")
    assert (config.optimizer.peak_lr, config.optimizer.updates_per_rollout, config.optimizer.minibatches) == (
        1e-3,
        1,
        1,
    )
    assert (config.data.train, config.data.train_size, config.data.eval) == ("chain:terms=2", 9, "chain:terms=3")


def test_every_stage_key_is_one_of_the_config():
    config = tiny.get_config()
    for keys in (sft_stage.STAGE_KEYS, sft_stage.STAGE_KEYS.values(), sft_stage.EVAL_ONLY):
        for key in keys:
            section, _, name = key.rpartition(".")
            assert name in (config[section] if section else config)
