"""The command line: mig-jax train | sft | eval | sample | score | export | variants | data | aot | study."""

import difflib
import io
import os
import re
import sys
import traceback
from logging import Formatter
from typing import cast

from absl import app, flags, logging
from ml_collections import config_flags

from mig_jax import __version__
from mig_jax.command_help import BY_HAND, COMMANDS, FLAGS, command_help, overview
from mig_jax.config import Config
from mig_jax.errors import UserError

# Read when jax is imported and when a TPU's compiler is loaded: look for no TPU, and let others compile, too.
AOT_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# Commands that may run in several processes, and those that may not.
DISTRIBUTED = ("train", "sft", "eval", "export")
ONE_PROCESS = ("sample", "score", "variants", "study")
RESUMABLE = ("train", "sft", "eval", "variants", "study")


# No default: ml_collections would apply overrides to it on import, where no error can be explained.
CONFIG = config_flags.DEFINE_config_file("config", None, "config file; --config.KEY=VALUE overrides")
WORKDIR = flags.DEFINE_string("workdir", None, FLAGS["workdir"].meaning)
MODEL = flags.DEFINE_string("model", None, FLAGS["model"].meaning)
BENCHMARKS = flags.DEFINE_string("benchmarks", None, FLAGS["benchmarks"].meaning)
DATA_DIR = flags.DEFINE_string("data_dir", None, FLAGS["data_dir"].meaning)
INPUT = flags.DEFINE_string("input", None, FLAGS["input"].meaning)
COORDINATOR = flags.DEFINE_string("coordinator", None, FLAGS["coordinator"].meaning)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, FLAGS["num_processes"].meaning, lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, FLAGS["process_id"].meaning, lower_bound=0)
TOPOLOGY = flags.DEFINE_string("topology", None, FLAGS["topology"].meaning)
QUESTION = flags.DEFINE_multi_string("question", [], FLAGS["question"].meaning)
ANSWER = flags.DEFINE_multi_string("answer", [], FLAGS["answer"].meaning)
KIND = flags.DEFINE_string("kind", "expression", FLAGS["kind"].meaning)
LIMIT = flags.DEFINE_integer("limit", None, FLAGS["limit"].meaning, lower_bound=1)
STEPS = flags.DEFINE_string("steps", None, FLAGS["steps"].meaning)
STEP = flags.DEFINE_integer("step", None, FLAGS["step"].meaning, lower_bound=0)
BEST = flags.DEFINE_bool("best", False, FLAGS["best"].meaning)
OUTPUT = flags.DEFINE_string("output", None, FLAGS["output"].meaning)
LIST = flags.DEFINE_bool("list", False, FLAGS["list"].meaning)
SEEDS = flags.DEFINE_integer("seeds", 5, FLAGS["seeds"].meaning, lower_bound=1)
SMOKE = flags.DEFINE_bool("smoke", False, FLAGS["smoke"].meaning)
ONLY = flags.DEFINE_string("only", None, FLAGS["only"].meaning)
PART = flags.DEFINE_string("part", None, FLAGS["part"].meaning)
DEBUG = flags.DEFINE_bool("debug", False, "show the stack trace of every error")


def main() -> None:
    """Run the `mig-jax` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows each step when it is done
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars in files; read when tqdm is imported
    # transformers prints at every import that torch is missing; it is not needed here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.set_verbosity(logging.WARNING)  # orbax logs every file at INFO
    logging.get_absl_handler().setFormatter(Formatter("%(levelname)s: %(message)s"))  # no thread, file or line
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
    """Return the positional arguments; exit with the help, or with what is wrong in a line."""
    words = argv[1:]
    command = next((word for word in words if word in COMMANDS), "")
    if not words or words[0] == "help" or {"-h", "-help", "--help"} & set(words):
        try:
            print(command_help(command) if command else overview())
        except BrokenPipeError:  # the reader has seen enough, as in `mig-jax train --help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0 if words else 2)
    if "--version" in words:
        print(f"mig-jax {__version__}")
        sys.exit(0)
    from mig_jax.config_file import check_config_file, check_overrides, find_config_file, short_message

    positional: list[str] = []
    try:
        path, arguments = _split_config_argument(words)
        path = find_config_file(path or "default")
        check_overrides(arguments, check_config_file(path))
        positional = flags.FLAGS([argv[0], f"--config={path}", *arguments])[1:]
        errors = _flag_errors(positional)
    except UserError as error:
        if "--debug" in words:
            raise
        errors = [str(error)]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        errors = [short_message(error)]
    if errors:
        name = f"mig-jax {command}" if command else "mig-jax"
        sys.exit(f"{name}: {'; '.join(errors)} (help: {name} --help)")
    return positional


def _split_config_argument(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the value of --config, None if it was not given, and the other arguments.

    Raises:
      UserError: --config is given without a value, or twice.
    """
    values, others, words = [], [], list(words)
    while words:
        name, has_value, value = (word := words.pop(0)).partition("=")
        if name not in ("--config", "-config"):
            others.append(word)
        elif has_value or words:
            values.append(value if has_value else words.pop(0))
        else:
            raise UserError("--config needs a value: --config=FILE.py")
    if len(values) > 1:
        raise UserError(f"--config is given {len(values)} times: {', '.join(values)}")
    return (values[0] if values else None), others


def _flag_errors(positional: list[str]) -> list[str]:
    """Return what is wrong with the command and its flags."""
    name = positional[0] if positional else ""
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        found = f"no command {name!r}{meant}" if name else "a command is missing"
        return [f"{found}; give one of {', '.join(COMMANDS)}"]
    if positional[1:] and name != "study":
        return [f"what is {' '.join(map(repr, positional[1:]))}? Values of flags follow a '=', as in --workdir=DIR"]
    command = COMMANDS[name]
    given = [flag for flag in FLAGS if flags.FLAGS[flag].present and (flag != "config" or _is_config_given())]
    missing = [f"--{flag}={FLAGS[flag].value}" for flag in command.required if flag not in given or _is_empty(flag)]
    errors = [f"{name} needs {' and '.join(missing)}"] if missing else []
    by_hand = [flag for flag in BY_HAND if flag in given]
    if by_hand and name not in DISTRIBUTED:
        errors.append(f"{name} runs in one process, without --{', --'.join(by_hand)}")
    elif by_hand:
        errors += _process_flag_errors(by_hand)
    wrong = [flag for flag in given if flag not in (*command.flags, *BY_HAND)]
    if wrong:
        errors.append(f"{name} has no flag --{', --'.join(wrong)}")
    if {"step", "best"} <= {*given}:
        errors.append("give --step or --best, not both")
    if name == "study":
        errors += _study_errors(positional[1:], given)
    return errors + _answer_flag_errors(name, given)


def _study_errors(names: list[str], given: list[str]) -> list[str]:
    """Return what is wrong with the name and the workdir of a study."""
    if "list" in given:
        return []
    if len(names) != 1:
        found = f"{len(names)} studies are named: {', '.join(names)}" if names else "study needs a name"
        return [f"{found}, as in mig-jax study sparse --workdir=DIR; mig-jax study --list lists them"]
    return [] if "workdir" in given and not _is_empty("workdir") else ["study needs --workdir=DIR"]


def _is_empty(flag: str) -> bool:
    """Return whether a flag of text has no value, as in --workdir=."""
    return flag != "config" and flags.FLAGS[flag].value == ""


def _answer_flag_errors(name: str, given: list[str]) -> list[str]:
    """Return what is wrong with --answer and --kind."""
    questions, answers = len(QUESTION.value or ()), len(ANSWER.value or ())
    if name == "score" and answers > 1:
        return [f"--answer is given {answers} times; score takes one for all rows (or data.columns.answer)"]
    if name == "sample" and answers not in (0, questions):
        return [f"--answer is given {answers} times, --question {questions} times; give one for each"]
    if name == "sample" and "kind" in given and not answers:
        return ["--kind needs --answer"]
    if name == "sample" and "limit" in given and questions:
        return ["--limit counts held-out problems; it has no use with --question"]
    return []


def _process_flag_errors(given: list[str]) -> list[str]:
    """Return what is wrong with the flags of processes that were started by hand, of which some are given."""
    if len(given) < len(BY_HAND):
        return [f"--{', --'.join(BY_HAND)} must be given together; only --{', --'.join(given)} was"]
    if not re.fullmatch(r".+:[0-9]+", COORDINATOR.value or ""):
        return [f"--coordinator={COORDINATOR.value} must be HOST:PORT"]
    if (PROCESS_ID.value or 0) >= (NUM_PROCESSES.value or 1):
        return [f"--process_id={PROCESS_ID.value} must be less than --num_processes={NUM_PROCESSES.value}"]
    return []


def _is_config_given() -> bool:
    return _split_config_argument(sys.argv[1:])[0] is not None


def run_command(positional: list[str]) -> None:
    """Run a command. A `UserError` is printed without its trace, unless --debug; every other error keeps it."""
    command = positional[0]
    if command == "aot":
        for name, value in AOT_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    if command == "study":
        os.environ.setdefault("TQDM_DISABLE", "1")  # the output of its runs is in files
    if command == "export":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # it only copies, and the run may be using the accelerators
    _join_processes(command)
    # Imported late, so that --help and a mistyped flag answer at once.
    from mig_jax.distributed import compilation_cache, multihost
    from mig_jax.records.compile_timer import show_compile_time
    from mig_jax.trainer import disk_space, preemption

    compilation_cache.enable()
    hint = "; rerun the same command to resume" if command in RESUMABLE else ""
    try:
        with show_compile_time():
            _dispatch(command, positional[1:])
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


def _dispatch(command: str, names: list[str]) -> None:
    from mig_jax.config_sources import local_path

    workdir = local_path("--workdir", WORKDIR.value)
    if command in ("train", "sft"):
        _train(command, workdir)
        return
    from mig_jax import commands
    from mig_jax.data import sources

    if command == "export":
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        if path := MODEL.value or overrides.get("model.path"):
            overrides["model.path"] = local_path("--model", path)
        output = local_path("--output", OUTPUT.value)
        commands.export(workdir, step=STEP.value, best=BEST.value or False, output=output, overrides=overrides)
        return
    if command == "study":
        _study(names, workdir)
        return
    config = chosen_config(command)
    if command == "eval":
        commands.evaluate(config, workdir)
    elif command == "sample":
        questions, answers = QUESTION.value or [], ANSWER.value or []
        commands.sample(config, questions, answers, kind=KIND.value or "", limit=LIMIT.value, workdir=workdir)
    elif command == "score":
        if ANSWER.value:
            config.data.columns.answer = f"={ANSWER.value[-1]}"
        commands.score(config, local_path("--input", INPUT.value), workdir, limit=LIMIT.value, steps=STEPS.value or "")
    elif command == "variants":
        commands.variants(config, workdir)
    elif command == "data":
        commands.prepare(config, sources.split_names(BENCHMARKS.value or ""))
    elif command == "aot":
        commands.aot(config, TOPOLOGY.value or "", workdir)


def _train(command: str, workdir: str) -> None:
    """Train; what other commands need is not imported, so that the first step begins sooner."""
    from mig_jax.trainer import preemption, train

    config = chosen_config(command)
    with preemption.catch_stop_signals() as should_stop:
        train.run(config, workdir, mode=command, should_stop=should_stop)


def _study(names: list[str], workdir: str) -> None:
    """List the studies, or run one."""
    from mig_jax import commands
    from mig_jax.config_sources import local_path
    from mig_jax.trainer import preemption

    if LIST.value:
        commands.list_studies()
        return
    path = _split_config_argument(sys.argv[1:])[0]
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    model = local_path("--model", MODEL.value)
    with preemption.catch_stop_signals() as should_stop:
        commands.study(
            names[0],
            workdir,
            config=path or "",
            model=os.path.abspath(model) if os.path.exists(model) else model,
            seeds=SEEDS.value or 1,
            smoke=SMOKE.value or False,
            only=[text for text in (ONLY.value or "").split(",") if text],
            part=PART.value or "1/1",
            overrides=overrides,
            should_stop=should_stop,
        )


def chosen_config(command: str) -> Config:
    """Return the config of --config, else that of the run that made the model, else the defaults; with overrides.

    The model may be named by --model or --config.model.path, as its folder or as the workdir of its run.

    Raises:
      UserError: see `use_run_config`.
    """
    from mig_jax.config_sources import local_path, use_absolute_parts, use_run_config
    from mig_jax.text.prompt_options import read_system_prompt

    config = CONFIG.value
    if MODEL.value:
        config.model.path, config.model.tokenizer = MODEL.value, ""
    config.model.path = local_path("--model", config.model.path)
    if config.model.path and not _is_config_given():
        use_run_config(config, with_columns=command != "score")
        config.update_from_flattened_dict(config_flags.get_override_values(flags.FLAGS["config"]))
    use_absolute_parts(config)
    if BENCHMARKS.value:
        config.eval.benchmarks = BENCHMARKS.value
    if DATA_DIR.value:
        config.data.dir = DATA_DIR.value
    config.data.system_prompt = read_system_prompt(config.data.system_prompt)
    return cast(Config, config)


if __name__ == "__main__":
    main()
