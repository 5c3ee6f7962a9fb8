"""A config file is found by its path or by its name, and what is wrong with it or with a flag is said in one line."""

import os

import pytest
from mig_jax.configs import default, quickstart

from mig_jax.config_file import (
    NamesParser,
    WeightsParser,
    check_config_file,
    check_overrides,
    find_config_file,
    flatten_record,
)
from mig_jax.errors import UserError

START = "from mig_jax.configs import default\n\n\ndef get_config():\n    c = default.get_config()\n"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.py", "configs/quickstart.py", "mig_jax/configs/quickstart"])
def test_configs_of_the_package_are_found_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(find_config_file(name), quickstart.__file__)
    assert find_config_file(f"{name}:7") == f"{find_config_file(name)}:7"


def test_own_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text("")
    assert find_config_file("configs/quickstart.py") == "configs/quickstart.py"
    assert find_config_file("~/configs/quickstart.py") == f"{tmp_path}/configs/quickstart.py"


@pytest.mark.parametrize(
    "path, message",
    [
        ("quikstart", "no such file (did you mean --config=quickstart?); give a file, or one of the configs that come"),
        ("mine/quickstart.py", "did you mean --config=quickstart?"),
        ("nowhere.py", "no such file; give a file, or one of the configs that come with mig_jax: default, pod, quick"),
        ("", "--config=: no such file"),
        ("folder", "--config=folder: a folder"),
    ],
)
def test_missing_file_is_explained(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as error:
        find_config_file(path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            START + "    c.rollout.group_size = '8'\n    return c\n",
            "py:6: group_size=8: must be of type int, not str",
        ),
        (START + "    c.rollout = 8\n    return c\n", "mine.py:6: rollout=8: must be of type ConfigDict, not int"),
        (
            START + "    c.rollout.gruop_size = 8\n",
            'py:6: the config has no "gruop_size": did you mean "group_size"',
        ),
        ("import nowhere_at_all\n", "mine.py:1: No module named 'nowhere_at_all'"),
        ("def get_config():\n    return default\n", "mine.py:2: name 'default' is not defined"),
        ("def get_config():\n    raise ValueError('two\\nlines')\n", "mine.py:2: two lines"),
        ("def get_config():\n    return {}['x']\n", "mine.py:2: KeyError 'x'"),
        ("def get_config():\n    assert False\n", "mine.py:2: AssertionError"),
        ("def get_config():\n    return (3).denominators\n", "mine.py:2: 'int' object has no attribute 'denominators'"),
        ("def get_config():\nreturn 3\n", "mine.py:2: expected an indented block"),
        ("def get_config():\n    return get_config()\n", "mine.py:2: maximum recursion depth exceeded"),
    ],
)
def test_failing_file_is_explained_in_one_line(text, message, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError) as error:
        check_config_file(str(tmp_path / "mine.py"))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--config.rollout.gruop_size=4", "the config has no rollout.gruop_size: did you mean rollout.group_size?"),
        ("--config.group_size=4", "did you mean rollout.group_size?"),
        ("--config.rollouts.temperature=1", "did you mean rollout.temperature?"),
        ("-config.optimizer.lr=1", "the config has no optimizer.lr: did you mean optimizer.peak_lr?"),
        ("--config.sft.zzz=3", "the config has no sft.zzz; sft has batch_size, data, data_size, peak_lr, steps"),
        ("--config.zzz", "the config has no zzz"),
        ("--config.loss.kappa=1", "the config has no loss.kappa: it is now called loss.kl_coef"),
        ("--config.rollout=4", "rollout is a section: set one of its keys, such as --config.rollout."),
        ("--noconfig.data.sytem_prompt", "did you mean data.system_prompt?"),
    ],
)
def test_unknown_keys_are_named_in_full(argument, message):
    with pytest.raises(UserError) as error:
        check_overrides([argument], default.get_config())
    assert message in str(error.value)


def test_all_unknown_keys_are_listed():
    with pytest.raises(UserError, match=r"no zzz; .* no rollout.gruop_size"):
        check_overrides(["train", "--config.zzz=1", "--config.rollout.gruop_size=4"], default.get_config())


def test_known_keys_pass():
    arguments = ["--config.steps=3", "--config.model.lora.modules[0]=query", "--noconfig.data.system_prompt", "eval"]
    check_overrides([*arguments, "--configs=3", "--workdir=--config.zzz"], default.get_config())


@pytest.mark.parametrize(
    "text, weights",
    [
        ("accuracy=1, my=file.py:short=-0.1", {"accuracy": 1.0, "my=file.py:short": -0.1}),
        ("{'accuracy': 1, 'a.py:f': 2.5}", {"accuracy": 1, "a.py:f": 2.5}),
        ("", {}),
    ],
)
def test_weights_on_the_command_line(text, weights):
    assert WeightsParser().parse(text) == weights


@pytest.mark.parametrize("text", ["accuracy", "accuracy=high", "{'accuracy'}", "{'accuracy': "])
def test_wrong_weights_are_explained(text):
    with pytest.raises(ValueError, match="must have the form NAME=NUMBER,NAME=NUMBER"):
        WeightsParser().parse(text)


def test_a_stored_config_keeps_its_dicts():
    record = {"reward": {"outcomes": {"a.py:f": 1.0}, "outcome_args": {"workers": 3}}, "gone": {"key": 1}}
    assert flatten_record(record, default.get_config()) == {
        "reward.outcomes": {"a.py:f": 1.0}, "reward.outcome_args.workers": 3, "gone.key": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tensorboard,my_parts.py:Csv", ("tensorboard", "my_parts.py:Csv")),
        ("query, key", ("query", "key")),
        ("my_parts.py:Csv", ("my_parts.py:Csv",)),
        ("('query', 'key')", ("query", "key")),
        ("3,4", (3, 4)),
        ("()", ()),
    ],
)
def test_names_on_the_command_line_need_no_quotation_marks(text, values):
    assert NamesParser().parse(text) == values
