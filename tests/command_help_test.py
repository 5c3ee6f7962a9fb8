"""The help of every command names its flags, its config keys with their defaults, and what it writes."""

import shlex

import pytest
from mig_jax.configs import default

from mig_jax import main
from mig_jax.command_help import COMMANDS, FLAGS, WIDTH, command_help, overview
from mig_jax.config_file import check_config_file, check_overrides, find_config_file


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_complete(name):
    text, command = command_help(name), COMMANDS[name]
    words = " ".join(text.split())
    assert " ".join(command.about.split()) in words
    assert all(f"--{flag}={FLAGS[flag].value}".rstrip("=") in text for flag in command.flags)
    assert words.count("(required)") == len(command.required)
    assert all(f"--config.{key}=" in text for key in command.keys) and all(file in text for file in command.writes)
    assert max(len(line) for line in text.splitlines()[:-1]) <= WIDTH


@pytest.mark.parametrize("name", COMMANDS)
def test_example_can_be_parsed(name):
    """Its flags are those of the command, its config exists, its keys exist."""
    program, command, *arguments = shlex.split(COMMANDS[name].example)
    assert (program, command) == ("mig-jax", name)
    flags = {argument.partition("=")[0].removeprefix("--"): argument.partition("=")[2] for argument in arguments}
    own = {flag for flag in flags if not flag.startswith("config.")}
    assert set(COMMANDS[name].required) <= own <= set(COMMANDS[name].flags)
    if "config" in flags:
        check_config_file(find_config_file(flags["config"]))
    check_overrides(arguments, default.get_config())


def test_defaults_are_those_of_the_config():
    assert "--config.rollout.group_size=8 " in command_help("train") and "samples per prompt" in command_help("train")


def test_every_flag_is_defined_and_used():
    assert {flag for command in COMMANDS.values() for flag in command.flags} == set(FLAGS)
    assert all(flag in main.flags.FLAGS for flag in FLAGS)


def test_overview_is_short():
    lines = overview().splitlines()
    assert len(lines) < 20 and max(map(len, lines)) <= WIDTH and all(name in overview() for name in COMMANDS)
