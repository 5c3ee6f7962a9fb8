"""The command line: mig-jax train | sft | eval | sample | score | variants | data | aot."""

import importlib.util
import os
import re
import sys
import traceback
from typing import Any, cast

from absl import app, flags, logging
from ml_collections import config_flags

from mig_jax import __version__
from mig_jax.config import RENAMED_KEYS, Config
from mig_jax.errors import UserError

HELP = """mig-jax: step-wise credit for reasoning policies.

  mig-jax train  --config=FILE.py --workdir=DIR     reinforcement learning (MIG; GRPO is loss.alpha = loss.gamma = 0)
  mig-jax sft    --config=FILE.py --workdir=DIR     supervised fine-tuning on written solutions
  mig-jax eval   --config=FILE.py --workdir=DIR     accuracy on held-out problems or benchmarks, and a page of responses
  mig-jax sample --config=FILE.py [--question=TEXT] completions of a question, or of a few held-out problems
  mig-jax score  --model=DIR --input=FILE.jsonl     the gain of every step of given transcripts
  mig-jax variants --config=FILE.py --workdir=DIR   further ways to write the answers of data.train, for the probes
  mig-jax data   [--benchmarks=NAME,NAME]           list the benchmarks, or build and show the named ones
  mig-jax aot    --config=FILE.py --topology=NAME   compile a training run for v5p:4x4x8 or h100:8, without running it

  --config.KEY=VALUE   overrides a value of the config, as in --config.rollout.group_size=16; configs/default.py
                       lists all keys. Without --config, eval, sample and score use the config of the run that made
                       the model, or the defaults.
  --model=DIR          the policy, a folder in Hugging Face format; short for --config.model.path=DIR
  --benchmarks=A,B     eval, data: gsm8k, math:test, jsonl:FILE, …; short for --config.eval.benchmarks=A,B
  --data_dir=DIR       folder of the benchmarks, a folder each; short for --config.data.dir=DIR
  --input=FILE.jsonl   score: rows with question, response, answer
  --question=TEXT      sample: may be repeated
  --coordinator=HOST:PORT --num_processes=N --process_id=I
                       train, sft, eval in several processes that were started by hand: I counts from 0, and process 0
                       listens at HOST:PORT. Processes launched by SLURM or Open MPI (a task for each GPU), and those
                       of a TPU pod, need none of this. The workdir must be on a disk that all of them share
  --topology=NAME      aot: a TPU slice (v5e:4x4, v5p:4x4x8, v6e:8x8, tpu7x:2x2x1) or GPUs (h100:8)
  --debug              show the stack trace of every error
  --version            print the version

train, sft, eval and variants resume when the same command is run again with the same workdir.
On SIGTERM or Ctrl-C, train and sft finish the current step, save a checkpoint and exit with code 75; a second signal
stops them at once.
"""
COMMANDS = ("train", "sft", "eval", "sample", "score", "variants", "data", "aot")
# Read when jax is imported and when a TPU's compiler is loaded: look for no TPU, and let others compile, too.
AOT_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# Commands that may run in several processes, and those that may not.
DISTRIBUTED = ("train", "sft", "eval")
ONE_PROCESS = ("sample", "score", "variants")
# Flags of processes that were started by hand.
BY_HAND = ("coordinator", "num_processes", "process_id")
RESUMABLE = ("train", "sft", "eval", "variants")
REQUIRED_FLAGS = {
    "train": ("config", "workdir"),
    "sft": ("config", "workdir"),
    "variants": ("config", "workdir"),
    "eval": ("workdir",),
    "score": ("input",),
    "aot": ("config", "topology"),
}
# Sections of its run's config that a model is prompted, sampled and scored with.
RUN_SECTIONS = ("data", "rollout", "reward")


def _default_config() -> str:
    spec = importlib.util.find_spec("mig_jax.configs")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("mig_jax.configs is missing: reinstall mig_jax")
    return os.path.join(spec.submodule_search_locations[0], "default.py")


# No default: ml_collections would apply overrides to it on import, where no error can be explained.
CONFIG = config_flags.DEFINE_config_file("config", None, "config file; --config.KEY=VALUE overrides")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
MODEL = flags.DEFINE_string("model", None, "folder of the policy, instead of config.model.path")
BENCHMARKS = flags.DEFINE_string("benchmarks", None, "sources to evaluate, instead of config.eval.benchmarks")
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of the benchmarks, instead of config.data.dir")
INPUT = flags.DEFINE_string("input", None, "transcripts to score")
COORDINATOR = flags.DEFINE_string("coordinator", None, "where process 0 listens, host:port")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "number of processes", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "number of this process, from 0", lower_bound=0)
TOPOLOGY = flags.DEFINE_string("topology", None, "what to compile for")
QUESTION = flags.DEFINE_multi_string("question", [], "what to ask")
DEBUG = flags.DEFINE_bool("debug", False, "show the stack trace of every error")


def main() -> None:
    """Run the `mig-jax` command."""
    # transformers prints at every import that torch is missing; it is not needed here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.set_verbosity(logging.WARNING)  # orbax logs every file at INFO
    silence_orbax()
    app.run(run_command, flags_parser=parse_arguments)


def silence_orbax() -> None:
    """Drop the traces that orbax's threads print before it raises their error."""
    logging.get_absl_handler().addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))
    print_unraisable = sys.unraisablehook

    def print_others(unraisable):
        # tensorstore raises this for every array that was not yet written when the first one failed.
        if str(unraisable.exc_value) != "Event loop is closed":
            print_unraisable(unraisable)

    sys.unraisablehook = print_others


def parse_arguments(argv: list[str]) -> list[str]:
    """Return the positional arguments; exit with the help, or with what is wrong."""
    if len(argv) < 2 or {"-h", "--help", "help"} & set(argv[1:]):
        print(HELP)
        sys.exit(0 if len(argv) > 1 else 2)
    if "--version" in argv[1:]:
        print(f"mig-jax {__version__}")
        sys.exit(0)
    from mig_jax.config_file import check_config_file, short_message

    path = _config_argument() or _default_config()
    try:
        check_config_file(path)
        positional = flags.FLAGS(argv if _config_argument() else [argv[0], f"--config={path}", *argv[1:]])[1:]
    except UserError as error:
        if "--debug" in argv:
            raise
        sys.exit(f"mig-jax: {error}")
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f"mig-jax: {short_message(error)}")
    errors = _flag_errors(positional)
    if errors:
        sys.exit("mig-jax: " + "; ".join(errors) + "\n\n" + HELP)
    return positional


def _config_argument() -> str | None:
    """Return the value of --config, or None if it was not given."""
    for argument, following in zip(sys.argv[1:], [*sys.argv[2:], ""], strict=True):
        name, has_value, value = argument.partition("=")
        if name in ("--config", "-config"):
            return value if has_value else following
    return None


def _flag_errors(positional: list[str]) -> list[str]:
    """Return what is wrong with the command and its flags."""
    command = positional[0] if positional else ""
    if len(positional) != 1 or command not in COMMANDS:
        return [f"give one command of {', '.join(COMMANDS)}, not {' '.join(positional) or 'none'}"]
    required = REQUIRED_FLAGS.get(command, ())
    present = {name: bool(flags.FLAGS[name].present) for name in required} | {"config": bool(_config_argument())}
    errors = [f"{command} needs --{name}" for name in required if not present[name]]
    given = [name for name in BY_HAND if flags.FLAGS[name].present]
    if given and command not in DISTRIBUTED:
        errors.append(f"{command} runs in one process, without --{', --'.join(given)}")
    elif given and len(given) < len(BY_HAND):
        errors.append(f"--{', --'.join(BY_HAND)} must be given together; only --{', --'.join(given)} was")
    elif given and not re.fullmatch(r".+:[0-9]+", COORDINATOR.value or ""):
        errors.append(f"--coordinator={COORDINATOR.value} must be HOST:PORT")
    elif given and (PROCESS_ID.value or 0) >= (NUM_PROCESSES.value or 1):
        errors.append(f"--process_id={PROCESS_ID.value} must be less than --num_processes={NUM_PROCESSES.value}")
    return errors


def run_command(positional: list[str]) -> None:
    """Run a command. A `UserError` is printed without its trace, unless --debug; every other error keeps it."""
    command = positional[0]
    if command == "aot":
        for name, value in AOT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    _join_processes(command)
    # Imported late, so that --help and a mistyped flag answer at once.
    from mig_jax.distributed import multihost
    from mig_jax.trainer import disk_space, preemption

    hint = "; rerun the same command to resume" if command in RESUMABLE else ""
    try:
        _dispatch(command)
    except preemption.Preempted as preempted:
        print(f"mig-jax {command}: {preempted}{hint}", file=sys.stderr)
        sys.exit(preemption.EXIT_CODE)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stdout = open(os.devnull, "w")
        sys.exit(0)
    except Exception as error:
        message = ""
        if disk_space.is_full(error):
            resume = " and rerun the same command to resume" if command in RESUMABLE else ""
            details = " ".join(str(error).split())[:300]
            message = f"mig-jax {command}: the disk is full; free some space{resume} ({details})"
        elif isinstance(error, UserError):
            message = f"mig-jax {command}: {error}"
        if DEBUG.value:
            message = ""
        multihost.abort_on_peer_failure(error, message or traceback.format_exc())
        if message:
            sys.exit(message)
        raise
    except KeyboardInterrupt:
        sys.exit(f"\nmig-jax {command}: stopped{hint}")


def _join_processes(command: str) -> None:
    """Join the other processes of a distributed command; exit if a command for one process has several."""
    from mig_jax.distributed import multihost

    if command in DISTRIBUTED:
        multihost.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        return
    launched = multihost.count_launched()
    if command in ONE_PROCESS and launched == 1:
        import jax

        launched = jax.process_count()  # hosts of a TPU pod find each other without a launcher
    if launched > 1:
        sys.exit(f"mig-jax {command} runs in one process, but {launched} were launched")


def _dispatch(command: str) -> None:
    from mig_jax import commands
    from mig_jax.data import sources
    from mig_jax.trainer import preemption, train

    config, workdir = chosen_config(), local_path("workdir", WORKDIR.value)
    if command in ("train", "sft"):
        with preemption.catch_stop_signals() as should_stop:
            train.run(config, workdir, mode=command, should_stop=should_stop)
    elif command == "eval":
        commands.evaluate(config, workdir)
    elif command == "sample":
        commands.sample(config, QUESTION.value)
    elif command == "score":
        commands.score(config, local_path("input", INPUT.value), workdir)
    elif command == "variants":
        commands.variants(config, workdir)
    elif command == "data":
        commands.prepare(config, sources.split_names(BENCHMARKS.value or ""))
    elif command == "aot":
        commands.aot(config, TOPOLOGY.value or "", workdir)


def local_path(flag: str, path: str | None) -> str:
    """Return a path with `~` expanded.

    Raises:
      UserError: the path is a URL, such as gs://bucket/run.
    """
    if path and "://" in path:
        raise UserError(f"--{flag}={path}: remote paths are not supported; give a local folder or file")
    return os.path.expanduser(path or "")


def chosen_config() -> Config:
    """Return the config of --config, else that of the run that made the model, else the defaults; with overrides.

    The model may be named by --model or --config.model.path, as its folder or as the workdir of its run.

    Raises:
      UserError: see `apply_run_config`.
    """
    from mig_jax.distributed import multihost
    from mig_jax.policy.load import RUN_CONFIG, find_run_config

    config = CONFIG.value
    if MODEL.value:
        config.model.path, config.model.tokenizer = MODEL.value, ""
    config.model.path = local_path("model", config.model.path)
    run_config = find_run_config(config.model.path)
    if config.model.path and not _config_argument() and multihost.is_main_process():
        source = run_config or f"the defaults, because {config.model.path} has no {RUN_CONFIG}"
        print(f"prompts, lengths and rewards are those of {source}", file=sys.stderr)
    if run_config and not _config_argument():
        apply_run_config(config, run_config)
        config.update_from_flattened_dict(config_flags.get_override_values(flags.FLAGS["config"]))
    if BENCHMARKS.value:
        config.eval.benchmarks = BENCHMARKS.value
    if DATA_DIR.value:
        config.data.dir = DATA_DIR.value
    return cast(Config, config)


def apply_run_config(config: Any, path: str) -> None:
    """Set the sections `RUN_SECTIONS` of a config to those of the run whose config is stored at `path`.

    Raises:
      UserError: the file is damaged, or has keys that were renamed since.
    """
    from mig_jax.records.atomic_file import read_json_object

    stored = read_json_object(path, keys=RUN_SECTIONS)
    old = [key for key in RENAMED_KEYS if key.split(".")[1] in (stored.get(key.split(".")[0]) or {})]
    if old:
        names = ", ".join(f"{key} is now {RENAMED_KEYS[key]}" for key in old)
        raise UserError(f"{path} was written by an earlier version: {names}. Rename these keys in the file")
    for section in RUN_SECTIONS:
        try:
            config[section].update({key: value for key, value in stored[section].items() if key in config[section]})
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {section}: {error}; give --config") from error


if __name__ == "__main__":
    main()
