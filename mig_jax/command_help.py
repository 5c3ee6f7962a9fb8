"""What each command of `mig-jax` does: its flags with their defaults, what it writes, an example."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mig_jax.config_comments import read_comments
from mig_jax.config_file import default_module, flatten

WIDTH = 100


class Flag(NamedTuple):
    """A flag of the command line.

    value: what is given after "=", such as DIR; "" for a switch.
    meaning: what it does.
    default: what applies without it; "" if nothing does.
    """

    value: str
    meaning: str
    default: str = ""


class Command(NamedTuple):
    """A command of `mig-jax`.

    summary: a few words, for the list of all commands.
    about: what it does.
    required, optional: names of its flags.
    keys: the config keys that are changed most often for it.
    writes: file → content, of the folder given by --workdir.
    example: a complete command.
    """

    summary: str
    about: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    keys: tuple[str, ...]
    writes: dict[str, str]
    example: str

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of all its flags."""
        return self.required + self.optional


FLAGS = {
    "config": Flag("FILE.py", "the config: a Python file, or the name of one of ours such as quickstart"),
    "workdir": Flag("DIR", "the folder of the results"),
    "model": Flag(
        "DIR", "the policy: a folder in Hugging Face format, the workdir of a run, a .gguf file or a hub name; short "
        "for --config.model.path=DIR", "model.path of the config",
    ),
    "benchmarks": Flag("A,B", "sources such as gsm8k, math:test or jsonl:FILE; short for --config.eval.benchmarks=A,B"),
    "data_dir": Flag("DIR", "folder of the benchmarks; short for --config.data.dir=DIR", "~/mig_jax_data"),
    "input": Flag("FILE", "the transcripts: .jsonl, .json, .csv, .tsv, .parquet or .arrow"),
    "question": Flag("TEXT", "a question; may be given several times", "held-out problems of the config"),
    "answer": Flag("TEXT", "the reference answer"),
    "kind": Flag("KIND", "how answers are compared with --answer: number, expression, text, …", "expression"),
    "limit": Flag("N", "use only the first N", "all"),
    "steps": Flag(
        "HOW", "where steps end: paragraph, line, sentence, the pattern of a header such as '^Step [0-9]+', or your "
        "own function as my_file.py:split; format: as response_format says",
        "by the steps that rows bring, else format",
    ),
    "step": Flag("N", "the checkpoint of this step", "the newest checkpoint"),
    "best": Flag("", "the checkpoint with the highest eval/sampled; of equal ones the newest"),
    "output": Flag("DIR", "the folder of the model", "WORKDIR/model_step_N"),
    "coordinator": Flag(
        "HOST:PORT", "several processes that you start by hand: where process 0 listens. SLURM, Open MPI and TPU pods "
        "need none of these three flags",
    ),
    "num_processes": Flag("N", "how many processes there are"),
    "process_id": Flag("I", "which of them this is, from 0"),
    "list": Flag("", "list the studies with their questions"),
    "seeds": Flag("N", "seeds of each arm", "5"),
    "smoke": Flag("", "only show that the study works: a tiny model, two training steps"),
    "only": Flag("A,B", "only the runs that have one of these in their name, with those that they need", "all"),
    "part": Flag("I/N", "only the I-th of N parts of the runs, for several machines", "1/1"),
    "topology": Flag("NAME", "a TPU slice such as v5e:4x4, v5p:4x4x8, v6e:8x8 or tpu7x:2x2x1, or GPUs such as h100:8"),
}  # fmt: skip

# Flags of processes that were started by hand.
BY_HAND = ("coordinator", "num_processes", "process_id")

_RUN_CONFIG = "the config of the run that made the model, else configs/default.py"
# Where the same flag differs between commands: (command, flag) -> meaning, default.
_SPECIAL = {
    ("train", "workdir"): ("the folder of the run; the same command with the same folder resumes it", ""),
    ("sft", "workdir"): ("the folder of the run; the same command with the same folder resumes it", ""),
    ("eval", "workdir"): ("the folder of the results; the same command with the same folder resumes", ""),
    ("export", "workdir"): ("the folder of the run; only its checkpoints and metrics are read", ""),
    ("export", "model"): ("where the base model of the run is now", "where it was"),
    ("score", "workdir"): (FLAGS["workdir"].meaning, "the input's name with _scores"),
    ("aot", "workdir"): (FLAGS["workdir"].meaning, "nothing is written"),
    ("sample", "workdir"): (FLAGS["workdir"].meaning, "nothing is written"),
    ("eval", "config"): (FLAGS["config"].meaning, _RUN_CONFIG),
    ("sample", "config"): (FLAGS["config"].meaning, _RUN_CONFIG),
    ("score", "config"): (FLAGS["config"].meaning, _RUN_CONFIG),
    ("study", "config"): ("the config of all runs", "that of the study"),
    ("study", "model"): ("the model that all runs start from", "that of the study"),
    ("study", "workdir"): ("the folder of the study; the same command resumes it", ""),
    ("data", "config"): (FLAGS["config"].meaning, "configs/default.py"),
    ("eval", "benchmarks"): (FLAGS["benchmarks"].meaning, "eval.benchmarks of the config, else its held-out problems"),
    ("data", "benchmarks"): ("benchmarks to build and to show", "list all benchmarks and their files"),
    ("sample", "answer"): ("the reference answer of each question, in their order; shows the gain of each step", ""),
    ("sample", "limit"): ("number of held-out problems", "4"),
    ("score", "answer"): ('the reference answer of all rows; short for --config.data.columns.answer="=TEXT"', ""),
    ("score", "limit"): ("score only the first N rows", "all rows"),
}

_RUN_FILES = {
    "model/": "the trained policy in Hugging Face format, with its config",
    "curves.png": "accuracy, rewards, lengths, losses and time by step",
    "gains_first.html, gains_last.html, and .png": "the first and the last responses, each step tinted by its gain",
    "report.md": "accuracy at start and end, and what went wrong",
    "transcripts/": "responses with grades and gains",
    "metrics.jsonl, tensorboard/": "every metric of every logged step",
    "parts/": "copies of the files with parts of your own, if the config names any",
    "profile/": "traces of log.profile_steps",
    "checkpoints/": "the training state, to resume from",
}

COMMANDS = {
    "train": Command(
        "reinforcement learning (MIG; GRPO is loss.alpha = loss.gamma = 0)",
        "Train a policy by reinforcement learning with step-wise credit. Each step samples rollout.group_size "
        "responses to each of rollout.questions questions, grades and scores them, and updates the policy. With "
        "sft.steps > 0, SFT in WORKDIR/sft comes first. SIGTERM or Ctrl-C saves a checkpoint after the current step "
        "and exits with code 75; the second signal stops at once.",
        ("config", "workdir"),
        ("model", "data_dir", *BY_HAND),
        ("steps", "model.path", "data.train", "data.eval", "rollout.questions", "rollout.group_size",
         "rollout.max_new_tokens", "loss.alpha", "loss.gamma", "optimizer.peak_lr", "optimizer.microbatches",
         "sft.steps", "eval.at_start", "eval.at_end", "eval.every", "eval.problems", "checkpoint.every", "seed"),
        _RUN_FILES,
        "mig-jax train --config=quickstart --workdir=/tmp/mig_quickstart --config.steps=20",
    ),
    "sft": Command(
        "supervised fine-tuning on written solutions",
        "Train a policy on the solutions of data.train, steps and answer, written as responses. It stops and resumes "
        "as `mig-jax train` does.",
        ("config", "workdir"),
        ("model", "data_dir", *BY_HAND),
        ("steps", "model.path", "data.train", "data.eval", "sft.batch_size", "optimizer.peak_lr", "optimizer.decay",
         "optimizer.microbatches", "rollout.max_new_tokens", "eval.at_start", "eval.at_end", "eval.every",
         "checkpoint.every", "seed"),
        {name: content for name, content in _RUN_FILES.items() if "gains" not in name and name != "transcripts/"},
        "mig-jax sft --config=quickstart_sft --workdir=/tmp/mig_sft --config.steps=200",
    ),
    "eval": Command(
        "accuracy on held-out problems or benchmarks, and a page of responses",
        "Answer every problem once greedily and eval.samples times at rollout.temperature, grade the answers, and "
        "print a table of accuracies.",
        ("workdir",),
        ("model", "config", "benchmarks", "data_dir", *BY_HAND),
        ("eval.problems", "eval.samples", "eval.batch_size", "eval.scored", "rollout.max_new_tokens",
         "rollout.temperature"),
        {
            "results.md, results.json": "the table, and all numbers",
            "SOURCE/transcripts.html": "a page to browse the responses to a source",
            "SOURCE/transcripts.jsonl, results.json": "the responses with their grades, and the numbers of a source",
        },
        "mig-jax eval --model=/tmp/mig_quickstart --workdir=/tmp/mig_eval --config.eval.samples=4",
    ),
    "sample": Command(
        "completions of a question, or of a few held-out problems",
        "Print a response to each question. With a reference answer, also print whether the response is right, and the "
        "log-likelihood of the answer and the gain of each step.",
        (),
        ("model", "config", "question", "answer", "kind", "limit", "workdir", "data_dir"),
        ("rollout.temperature", "rollout.max_new_tokens", "seed"),
        {
            "samples.jsonl": "the responses, each written when it is printed",
            "gains.png, gains.html": "each step tinted by its gain",
        },
        'mig-jax sample --model=/tmp/mig_quickstart --question="Last digits of 7 +5 -3 *3" --answer=297',
    ),
    "score": Command(
        "the gain of every step of given transcripts",
        "Score responses that you have. A row needs question, response and answer. Columns of other names are given by "
        "data.columns; a column may hold chat messages, of which the user's is the question and the assistant's is the "
        "response.",
        ("input",),
        ("model", "config", "workdir", "answer", "limit", "steps"),
        ("response_format", "data.columns.question", "data.columns.response", "data.columns.answer",
         "data.columns.kind", "reward.credit"),
        {
            "scores.jsonl": "the rows with steps, ell_k, watermark_k, gain_k and grades",
            "scores_partial.jsonl": "the rows scored so far, until all are",
            "gains.png, gains.html": "each step tinted by its gain",
        },
        "mig-jax score --model=/tmp/mig_quickstart --input=transcripts.jsonl --config.data.columns.response=output",
    ),
    "export": Command(
        "the model of a checkpoint, as a folder in Hugging Face format",
        "Write the model of a stopped or finished run as the end of the run would: parameters, the base model's own "
        "tokenizer files and generation config, and a model card. Needs no data and no accelerator. An unknown step "
        "lists those there are.",
        ("workdir",),
        ("step", "best", "output", "model", *BY_HAND),
        ("model.save_dtype", "model.lora.save", "model.path", "model.tokenizer"),
        {"model_step_N/": "the model, unless --output names a folder; with model.lora.save=adapter a PEFT folder"},
        "mig-jax export --workdir=/tmp/mig_quickstart --best --output=/tmp/mig_best",
    ),
    "variants": Command(
        "further ways to write the answers of data.train, for the probes",
        "Let the policy propose other spellings of the reference answers, and keep those that the verifier confirms.",
        ("config", "workdir"),
        ("model", "data_dir"),
        ("data.train", "data.train_size", "reward.max_variants"),
        {"variants.jsonl": "the confirmed variants; train with --config.data.variants=WORKDIR/variants.jsonl"},
        "mig-jax variants --config=quickstart --workdir=/tmp/mig_variants --config.data.train_size=64",
    ),
    "data": Command(
        "list the benchmarks, or build and show the named ones",
        "Without --benchmarks, list every benchmark with its files, addresses and licenses. With it, build the named "
        "ones from the published files in data.dir, and show a problem of each.",
        (),
        ("benchmarks", "data_dir", "config"),
        ("data.dir",),
        {},
        "mig-jax data --benchmarks=gsm8k,math:test",
    ),
    "aot": Command(
        "compile a training run for another machine, without running it",
        "Compile the programs of a run for a TPU slice or for GPUs that you do not have, and print whether they fit "
        "into its memory, what they compute and send, and what to change.",
        ("config", "topology"),
        ("model", "workdir"),
        ("rollout.questions", "rollout.max_new_tokens", "optimizer.microbatches", "mesh.data", "mesh.fsdp",
         "mesh.tensor"),
        {"aot.md, aot.json": "the report, and its numbers"},
        "mig-jax aot --config=quickstart --topology=v5e:4x4",
    ),
    "study": Command(
        "one of the paper's questions: its runs, and a page of what was found",
        "Run a study by its name, as in `mig-jax study sparse --workdir=DIR`: a grid of training runs and evaluations, "
        "in sequence, and a page with tables, intervals and a figure. A stopped run resumes, and a finished one "
        "is never run again. Processes that share a workdir share the runs. With --part, machines have workdirs of "
        "their own; put their runs/ together and run the command again for the page. A study of your own is "
        "my_study.py:STUDY.",
        (),
        ("list", "workdir", "seeds", "smoke", "only", "part", "config", "model"),
        ("steps", "rollout.questions", "optimizer.peak_lr"),
        {
            "report.md, figure.png, results.json": "what was expected and what was found, from all finished runs",
            "runs/": "the folder of each run: what its command writes, its output in output.txt, run.json at its end",
        },
        "mig-jax study --list",
    ),
}  # fmt: skip


def overview() -> str:
    """Return the help of `mig-jax` itself."""
    lines = ["mig-jax: step-wise credit for reasoning policies.", ""]
    lines += [f"  mig-jax {name:<9} {command.summary}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "  mig-jax CMD --help   flags of a command with their defaults, what it writes, an example",
        "  --config.KEY=VALUE   override a value of the config, as in --config.rollout.group_size=16",
        "  --debug              show the stack trace of every error",
        "  --version            print the version",
    ]
    return "\n".join(lines)


def command_help(name: str) -> str:
    """Return the help of a command: what it does, its flags and main config keys with defaults, its files, an example.

    Args:
      name: a key of `COMMANDS`.
    """
    command = COMMANDS[name]
    usage = [f"--{flag}={FLAGS[flag].value}" for flag in command.required]
    lines = [" ".join([f"mig-jax {name}", *usage, "[--FLAG=VALUE …] [--config.KEY=VALUE …]"]), ""]
    lines += [*textwrap.wrap(command.about, WIDTH), "", "flags:"]
    for flag in command.flags:
        meaning, default = _SPECIAL.get((name, flag), (FLAGS[flag].meaning, FLAGS[flag].default))
        note = " (required)" if flag in command.required else f" (default: {default})" if default else ""
        lines += _entry(f"--{flag}={FLAGS[flag].value}".rstrip("="), meaning + note)
    lines += _entry("--debug", "show the stack trace of every error")
    lines += ["", "config keys that are changed most often, with the defaults of configs/default.py:"]
    config, comments = _defaults()
    for key in command.keys:
        lines += _entry(f"--config.{key}={config[key]}", comments[key])
    if command.writes:
        lines += ["", "it writes, in the workdir:"]
        lines += [line for file, content in command.writes.items() for line in _entry(file, content)]
    return "\n".join([*lines, "", "example:", f"  {command.example}"])


def _defaults() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values and the comments of `configs/default.py` by key."""
    default = default_module()
    return flatten(default.get_config()), read_comments(Path(default.__file__).read_text(encoding="utf-8"))


def _entry(name: str, meaning: str) -> Iterable[str]:
    """Return the lines of a list's entry: the name, and its meaning beside it or below."""
    first = f"  {name:<36}"
    lines = textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=" " * 38) if len(name) < 36 else []
    return lines or [first, *textwrap.wrap(meaning, WIDTH, initial_indent=" " * 38, subsequent_indent=" " * 38)]
