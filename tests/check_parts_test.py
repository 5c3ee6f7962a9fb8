"""A user's own parts are checked on a small sample before anything is compiled, and only where they are used."""

import json

import pytest

from mig_jax.check_config import ConfigError, check_config
from mig_jax.check_parts import KINDS, part_errors
from mig_jax.config_sources import apply_run_config, load_config
from tests import tiny

RIGHT = """
import jax, jax.numpy as jnp
from mig_jax.rewards import Credit, CreditRule
from mig_jax.learning.advantages import trajectory_credit

def credit(group, *, threshold=0.0):
    gain_gk = jnp.where(group.valid_gk[:, 1:], jnp.diff(group.ell_gk) - threshold, 0.0)
    return Credit(gain_gk.sum(1), gain_gk)
rule = CreditRule(credit, "probability")
gate = lambda group, fall_g, tolerance: group.is_correct_g | (fall_g <= tolerance)
def level(reward_qg, gain_qgk, valid_qgk, step_bt, *, discount, **options):
    return trajectory_credit(reward_qg, step_bt, **options)
def advantage(reward_qg, valid_qg):
    return jnp.where(valid_qg, reward_qg - jnp.median(reward_qg, axis=1, keepdims=True), 0.0)
def scale(deviation_qg, valid_qg, eps):
    return jnp.abs(deviation_qg).max() + eps
def over_tokens(logprob_kay, scored_ay):
    return jnp.where(scored_ay, logprob_kay, 0.0).min(-1)
def over_spellings(ell_ka):
    return ell_ka.min(-1)
def loss(ratio_bt, logprob_bt, advantage_bt, settings):
    return ratio_bt * advantage_bt, ratio_bt > 1 + settings.clip_high
def ratio(logprob_bt, old_logprob_bt, mask_bt):
    return jnp.exp(logprob_bt - old_logprob_bt)
def aggregate(mask_bt):
    return mask_bt / 7
def reward(sample):
    return 1.0
class Writer:
    def __init__(self, workdir, config, resume_step): ...
"""

WRONG = """
import jax.numpy as jnp
from mig_jax.rewards import Credit, CreditRule

def short(group):
    return Credit(group.ell_gk.sum(1), group.ell_gk)
unit = CreditRule(lambda group: Credit(group.ell_gk.sum(1), group.ell_gk[:, 1:]), "tokens")
def loss(ratio_bt, logprob_bt, advantage_bt):
    return ratio_bt
def one(ratio_bt, logprob_bt, advantage_bt, settings):
    return ratio_bt * advantage_bt
def branches(ratio_bt, logprob_bt, advantage_bt, settings):
    if ratio_bt.max() > 1:
        return ratio_bt, ratio_bt
def mean(mask_bt):
    return mask_bt.mean(1)
def scale(deviation_qg, valid_qg, eps):
    return deviation_qg.std(1)
number = 3
"""

SPECS = {
    "reward.credit": "credit", "reward.credit_args.gate": "gate", "reward.credit_level": "level",
    "reward.advantage": "advantage", "reward.outcome_scale": "scale", "reward.process_scale": "scale",
    "reward.over_tokens": "over_tokens", "reward.over_spellings": "over_spellings", "loss.policy_loss": "loss",
    "loss.ratio": "ratio", "loss.aggregate": "aggregate",
}  # fmt: skip


def config_with(file, specs, **changes):
    config = tiny.get_config(**changes)
    for key, name in specs.items():
        tiny.change(config, {key.replace(".", "__"): f"{file}:{name}"})
    return config


@pytest.mark.parametrize("level", ["trajectory", "step"])
def test_right_parts_of_every_kind_pass(tmp_path, level):
    file = tmp_path / "mine.py"
    file.write_text(RIGHT)
    specs = (
        SPECS if level == "trajectory" else {key: name for key, name in SPECS.items() if key != "reward.credit_level"}
    )
    config = config_with(file, specs)
    if level == "step":
        config.reward.credit_level = "step"
        config.reward.credit = f"{file}:rule"
    config.reward.outcomes = {f"{file}:reward": 1.0}
    config.reward.credit_args.threshold, config.reward.credit_args.gate_tolerance = 0.5, 1.0
    config.log.writers = (f"{file}:Writer",)
    assert KINDS.keys() == {*SPECS, "reward.outcomes", "log.writers"}
    check_config(config, mode="train", n_devices=1)


@pytest.mark.parametrize(
    "key, name, message",
    [
        ("reward.credit", "short", r"returns \(3,\), \(3, 5\); must return \(3,\), \(3, 4\) for this sample"),
        ("reward.credit", "unit", "its unit is 'tokens'; must be one of nats, probability"),
        ("loss.policy_loss", "loss", r"must take \(ratio_bt, logprob_bt, advantage_bt, settings\), but takes"),
        ("loss.policy_loss", "one", r"returns \(2, 5\); must return \(2, 5\), \(2, 5\)"),
        ("loss.policy_loss", "branches", r"fails on a sample: .*wrong.py:13: TracerBoolConversionError"),
        ("loss.policy_loss", "number", r"must be a function of .*, not a int"),
        ("loss.aggregate", "mean", r"returns \(2,\); must return \(2, 5\)"),
        ("reward.outcome_scale", "scale", "Incompatible shapes|must broadcast"),
        ("reward.advantage", "nothing", "has no 'nothing'"),
    ],
)
def test_wrong_parts_are_refused(tmp_path, key, name, message):
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    with pytest.raises(ConfigError, match=rf"{key}='.*{message}"):
        check_config(config_with(file, {key: name}), mode="train", n_devices=1)


@pytest.mark.parametrize(
    "mode, unused",
    [
        (
            "score",
            SPECS.keys() - {"reward.credit", "reward.credit_args.gate", "reward.over_tokens", "reward.over_spellings"},
        ),
        ("variants", SPECS.keys()),
        ("sft", {key for key in SPECS if key.startswith("reward.")} - {"reward.advantage", "reward.outcome_scale"}),
    ],
)
def test_parts_that_a_command_does_not_use_may_be_gone(mode, unused):
    config = config_with("/nowhere/gone.py", {key: "part" for key in unused})
    config.reward.outcomes = {"/nowhere/gone.py:reward": 1.0}
    check_config(config, mode=mode, n_devices=1)
    if mode == "score":
        config.reward.credit = "/nowhere/gone.py:credit"
        with pytest.raises(ConfigError, match="reward.credit='/nowhere/gone.py:credit': no such file"):
            check_config(config, mode=mode, n_devices=1)


def test_outcomes_have_names_of_their_own():
    config = tiny.get_config(reward__outcomes={"math:sqrt": 1.0, "cmath:sqrt": 1.0, "a.py:accuracy": 1.0})
    with pytest.raises(ConfigError, match=r"'cmath:sqrt': the name 'sqrt' is taken.*\n.*'a.py:accuracy': the name"):
        check_config(config, mode="score", n_devices=1)


def test_own_kind_of_answers_for_all_rows_is_checked(tmp_path):
    (tmp_path / "kinds.py").write_text("same = lambda response, reference, choices: response == reference\nnumber = 3")
    config = tiny.get_config(data__columns__kind=f"={tmp_path}/kinds.py:same")
    assert part_errors(config, mode="train") == []
    config.data.columns.kind = f"={tmp_path}/kinds.py:number"
    (error,) = part_errors(config, mode="train")
    assert error.startswith("data.columns.kind=") and "must be an AnswerKind" in error


def test_parts_are_found_from_any_folder_and_stored_with_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = {
        "log.writers": ("tensorboard", "mine.py:Writer"),
        "reward.outcomes": {"accuracy": 1, "mine.py:f": -0.5},
    }
    config = load_config("quickstart", reward={"credit": "mine.py:g"}, **overrides)
    outcomes = {"accuracy": 1, f"{tmp_path}/mine.py:f": -0.5}
    assert config.reward.outcomes == outcomes and config.reward.credit == f"{tmp_path}/mine.py:g"
    assert config.log.writers == ("tensorboard", f"{tmp_path}/mine.py:Writer")
    assert load_config(config, reward={"outcomes": {"format": 2.0}}).reward.outcomes == {"format": 2.0}
    assert config.reward.outcomes == outcomes
    file = tmp_path / "mig_jax_config.json"
    file.write_text(json.dumps(config.to_dict()))
    stored = load_config()
    apply_run_config(stored, str(file))
    assert stored.reward.outcomes == outcomes and stored.reward.credit == config.reward.credit
