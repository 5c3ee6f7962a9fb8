"""The command line: mig-jax train | sft | eval | sample | score | variants | data | aot."""

import importlib.util
import json
import os
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from mig_jax.config import Config

HELP = """mig-jax: step-wise credit for reasoning policies.

  mig-jax train  --config=FILE.py --workdir=DIR     reinforcement learning (MIG; GRPO is loss.alpha = loss.gamma = 0)
  mig-jax sft    --config=FILE.py --workdir=DIR     learn written solutions
  mig-jax eval   --config=FILE.py --workdir=DIR     figures on held-out problems or benchmarks, and a page of responses
  mig-jax sample --config=FILE.py [--question=TEXT] completions of a question, or of a few held-out problems
  mig-jax score  --model=DIR --input=FILE.jsonl     which steps of given transcripts earned the credit
  mig-jax variants --config=FILE.py --workdir=DIR   further spellings of the answers of data.train, for the probes
  mig-jax data   [--benchmarks=NAME,NAME]           the benchmarks there are, or the named ones built and shown
  mig-jax aot    --config=FILE.py --topology=NAME   would a training run fit on v5p:4x4x8, or h100:8? compiled, not run

  --config.KEY=VALUE   overrides a value of the config, as in --config.rollout.group_size=16; configs/default.py
                       lists them all. Without --config, eval, sample and score take that of the run that made the
                       model, or the defaults.
  --model=DIR          the policy, a folder in Hugging Face format; short for --config.model.path=DIR
  --benchmarks=A,B     eval, data: gsm8k, math:test, jsonl:FILE, …; short for --config.eval.benchmarks=A,B
  --data_dir=DIR       where benchmarks are, a folder each; short for --config.data.dir=DIR
  --input=FILE.jsonl   score: rows of question, response, answer
  --question=TEXT      sample: may be given several times
  --coordinator=HOST:PORT --num_processes=N --process_id=I
                       train, sft, eval in several processes that were started by hand: I counts from 0, and process 0
                       listens at HOST:PORT. Those that SLURM or Open MPI has launched (a task for each GPU), and those
                       of a TPU pod, find each other without. The workdir is on a disk that all of them see
  --topology=NAME      aot: a TPU slice (v5e:4x4, v5p:4x4x8, v6e:8x8, tpu7x:2x2x1) or GPUs (h100:8)

train, sft, eval and variants go on from where they were stopped when they are started again in the same workdir.
train and sft end the step under way when they are told to stop (SIGTERM, Ctrl-C), save a checkpoint, and leave with
the exit code 75; a second signal ends them at once.
"""
COMMANDS = ("train", "sft", "eval", "sample", "score", "variants", "data", "aot")
# Read when jax is imported and when a TPU's compiler is loaded: no TPU is looked for, and others may compile, too.
AOT_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# In several processes, if there are such.
DISTRIBUTED = ("train", "sft", "eval")
ONE_PROCESS = ("sample", "score", "variants")
BY_HAND = ("coordinator", "num_processes", "process_id")
RESUMED = ("train", "sft", "eval", "variants")

DEFAULT_CONFIG = os.path.join(importlib.util.find_spec("mig_jax.configs").submodule_search_locations[0], "default.py")
CONFIG = config_flags.DEFINE_config_file("config", DEFAULT_CONFIG, "file of the config; --config.KEY=VALUE overrides")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
MODEL = flags.DEFINE_string("model", None, "folder of the policy, in place of config.model.path")
BENCHMARKS = flags.DEFINE_string("benchmarks", None, "sources to evaluate, in place of config.eval.benchmarks")
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of the benchmarks, in place of config.data.dir")
INPUT = flags.DEFINE_string("input", None, "transcripts to score")
COORDINATOR = flags.DEFINE_string("coordinator", None, "where process 0 listens, host:port")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many processes were started", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of them this is, from 0", lower_bound=0)
TOPOLOGY = flags.DEFINE_string("topology", None, "what to compile for")
QUESTION = flags.DEFINE_multi_string("question", [], "what to ask")


def main() -> None:
    """Entry point of the `mig-jax` command."""
    # transformers says at every import that it has no torch, which it does not need here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
    _leave_faults_of_checkpoints_to_us()
    app.run(run_command, flags_parser=parse_arguments)


def _leave_faults_of_checkpoints_to_us() -> None:
    """When a checkpoint cannot be written, orbax raises that; no stack traces of its threads come before."""
    logging.get_absl_handler().addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))
    print_unraisable = sys.unraisablehook

    def print_others(unraisable):
        # What tensorstore meets for every array that was not yet written when the first one failed.
        if str(unraisable.exc_value) != "Event loop is closed":
            print_unraisable(unraisable)

    sys.unraisablehook = print_others


def parse_arguments(argv: list[str]) -> list[str]:
    """The positional arguments; ends with help, or with a word on what is wrong."""
    if len(argv) < 2 or {"-h", "--help", "help"} & set(argv[1:]):
        print(HELP)
        sys.exit(0 if len(argv) > 1 else 2)
    try:
        positional = flags.FLAGS(argv)[1:]
        CONFIG.value["steps"]  # a file that could not be loaded says so when it is first asked
    except (flags.Error, AttributeError, KeyError, OSError) as error:
        sys.exit(f"mig-jax: {_plainly(error)}")
    faults = _faults(positional)
    if faults:
        sys.exit("mig-jax: " + "; ".join(faults) + "\n\n" + HELP)
    return positional


def _plainly(error: Exception) -> str:
    """What ml_collections says of a config, without its quotation marks and stack traces."""
    message = str(error).strip()
    guess = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', message)
    if guess:
        return f'the config has no "{guess[2]}": did you mean "{guess[1]}"?'
    if isinstance(error, AttributeError):
        return "the config has no " + re.sub(r"[\\'\"]+", "'", message)
    return message.splitlines()[-1] if "Traceback" in message else message


def _faults(positional: list[str]) -> list[str]:
    command = positional[0] if positional else ""
    if len(positional) != 1 or command not in COMMANDS:
        return [f"one command of {', '.join(COMMANDS)} is needed, not {' '.join(positional) or 'none'}"]
    needed = dict.fromkeys(("train", "sft", "variants"), ["config", "workdir"])
    needed |= {"eval": ["workdir"], "score": ["input"], "aot": ["config", "topology"]}
    faults = [f"{command} needs --{name}" for name in needed.get(command, []) if not flags.FLAGS[name].present]
    given = [name for name in BY_HAND if flags.FLAGS[name].present]
    if given and command not in DISTRIBUTED:
        faults.append(f"{command} runs in one process, without --{', --'.join(given)}")
    elif given and len(given) < len(BY_HAND):
        faults.append(f"--{', --'.join(BY_HAND)} are given together; there is only --{', --'.join(given)}")
    elif given and PROCESS_ID.value >= NUM_PROCESSES.value:
        faults.append(f"--process_id={PROCESS_ID.value} is not below --num_processes={NUM_PROCESSES.value}")
    return faults


def run_command(positional: list[str]) -> None:
    """Do what was asked; what is wrong with the config or the input is said without a stack trace."""
    if positional[0] == "aot":
        for name, value in AOT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    # Imported late, so that --help and a mistyped flag answer at once.
    from mig_jax.distributed import multihost

    command, workdir = positional[0], WORKDIR.value
    if command in DISTRIBUTED:
        multihost.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    elif multihost.count_launched() > 1:
        sys.exit(f"mig-jax {command} runs in one process, and {multihost.count_launched()} were launched")
    if command in ONE_PROCESS:
        import jax

        if jax.process_count() > 1:  # hosts of a TPU pod know each other without being told
            sys.exit(f"mig-jax {command} runs in one process, not on {jax.process_count()} hosts")
    from mig_jax import commands
    from mig_jax.data import sources
    from mig_jax.trainer import disk_space, preemption, train

    try:
        config = chosen_config()
        if command in ("train", "sft"):
            with preemption.catch_stop_signals() as should_stop:
                train.run(config, workdir, mode=command, should_stop=should_stop)
        elif command == "eval":
            commands.evaluate(config, workdir)
        elif command == "sample":
            commands.sample(config, QUESTION.value)
        elif command == "score":
            commands.score(config, INPUT.value, workdir)
        elif command == "variants":
            commands.variants(config, workdir)
        elif command == "data":
            commands.prepare(config, sources.split_names(BENCHMARKS.value or ""))
        elif command == "aot":
            commands.aot(config, TOPOLOGY.value, workdir)
    except preemption.Preempted as stopped:
        print(f"mig-jax {command}: {stopped}; the same command goes on", file=sys.stderr)
        sys.exit(preemption.EXIT_CODE)
    except Exception as error:
        said = ""
        if disk_space.is_full(error):
            again = "make room, and the same command goes on" if command in RESUMED else "make room"
            said = f"mig-jax {command}: the disk is full; {again} ({' '.join(str(error).split())[:300]})"
        elif isinstance(error, ValueError | OSError) and _is_said_by_us(error):
            said = f"mig-jax {command}: {error}"
        multihost.abort_on_peer_failure(error, said or traceback.format_exc())
        if said:
            sys.exit(said)
        raise
    except KeyboardInterrupt:
        sys.exit(f"\nmig-jax {command}: stopped" + ("; the same command goes on" if command in RESUMED else ""))


def chosen_config() -> Config:
    """The config of --config; without it that of the run that made the model, or else the defaults; then overrides."""
    config, folder = CONFIG.value, MODEL.value
    if folder:
        config.model.path, config.model.tokenizer = folder, ""
    beside = os.path.join(folder or "", "mig_jax_config.json")
    if folder and not flags.FLAGS["config"].present and os.path.exists(beside):
        with open(beside, encoding="utf-8") as file:
            of_run = json.load(file)
        for section in ("data", "rollout", "reward"):
            config[section].update({key: value for key, value in of_run[section].items() if key in config[section]})
        config.update_from_flattened_dict(config_flags.get_override_values(flags.FLAGS["config"]))
    if BENCHMARKS.value:
        config.eval.benchmarks = BENCHMARKS.value
    if DATA_DIR.value:
        config.data.dir = DATA_DIR.value
    return config


def _is_said_by_us(error: BaseException) -> bool:
    """Is this a message of ours, about an input, or a bug, whose stack trace is wanted?"""
    frames = traceback.extract_tb(error.__traceback__)
    return os.path.dirname(os.path.abspath(__file__)) in os.path.abspath(frames[-1].filename)


if __name__ == "__main__":
    main()
