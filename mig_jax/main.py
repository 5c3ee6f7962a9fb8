"""The command line: mig-jax train | sft | eval | score | sample."""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

HELP = """mig-jax: step-wise credit for reasoning policies.

  mig-jax train  --config=FILE.py --workdir=DIR     reinforcement learning (MIG; GRPO is loss.alpha = loss.gamma = 0)
  mig-jax sft    --config=FILE.py --workdir=DIR     learn written solutions
  mig-jax eval   --config=FILE.py --workdir=DIR     accuracy on held-out problems: results.json, transcripts.jsonl
  mig-jax sample --config=FILE.py [--question=TEXT] completions of a question, or of a few held-out problems
  mig-jax score  --input=FILE.jsonl --workdir=DIR   which steps of given transcripts earned the credit

  --config.KEY=VALUE   overrides a value of the config, as in --config.rollout.group_size=16; configs/default.py
                       lists them all. eval, sample and score need no --config.
  --model=DIR          the policy, a folder in Hugging Face format; short for --config.model.path=DIR
  --input=FILE.jsonl   score: rows of question, response, answer
  --question=TEXT      sample: may be given several times

train and sft go on from where they were stopped when they are started again in the same workdir.
"""
COMMANDS = ("train", "sft", "eval", "sample", "score")

CONFIG = config_flags.DEFINE_config_file("config", None, "file of the config; --config.KEY=VALUE overrides a value")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
MODEL = flags.DEFINE_string("model", None, "folder of the policy, in place of config.model.path")
INPUT = flags.DEFINE_string("input", None, "transcripts to score")
QUESTION = flags.DEFINE_multi_string("question", [], "what to ask")


def main() -> None:
    """Entry point of the `mig-jax` command."""
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
    app.run(run_command, flags_parser=parse_arguments)


def parse_arguments(argv: list[str]) -> list[str]:
    """The positional arguments; ends with help, or with a word on what is wrong."""
    if len(argv) < 2 or {"-h", "--help", "help"} & set(argv[1:]):
        print(HELP)
        sys.exit(0 if len(argv) > 1 else 2)
    try:
        positional = flags.FLAGS(argv)[1:]
    except (flags.Error, AttributeError, KeyError, OSError) as error:
        # ml_collections raises AttributeError for a misspelt key, and says what was meant.
        sys.exit(f"mig-jax: {str(error).strip()}".replace("\\'", "'"))
    faults = _faults(positional)
    if faults:
        sys.exit("mig-jax: " + "; ".join(faults) + "\n\n" + HELP)
    return positional


def _faults(positional: list[str]) -> list[str]:
    command = positional[0] if positional else ""
    if len(positional) != 1 or command not in COMMANDS:
        return [f"one command of {', '.join(COMMANDS)} is needed, not {' '.join(positional) or 'none'}"]
    needed = {"train": ["config", "workdir"], "sft": ["config", "workdir"], "eval": ["workdir"], "score": ["input"]}
    return [f"{command} needs --{name}" for name in needed.get(command, []) if flags.FLAGS[name].value is None]


def run_command(positional: list[str]) -> None:
    """Do what was asked; what is wrong with the config or the input is said without a stack trace."""
    # Imported late, so that --help and a mistyped flag answer at once.
    from mig_jax import commands, train
    from mig_jax.configs import default

    command, config, workdir = positional[0], CONFIG.value or default.get_config(), WORKDIR.value
    if MODEL.value:
        config.model.path = MODEL.value
    try:
        if command in ("train", "sft"):
            train.run(config, workdir, mode=command)
        elif command == "eval":
            commands.evaluate(config, workdir)
        elif command == "sample":
            commands.sample(config, QUESTION.value)
        elif command == "score":
            commands.score(config, INPUT.value, workdir)
    except (ValueError, OSError) as error:
        if os.environ.get("MIG_JAX_TRACEBACK"):
            raise
        sys.exit(f"mig-jax {command}: {error}\n(MIG_JAX_TRACEBACK=1 shows where)")


if __name__ == "__main__":
    main()
