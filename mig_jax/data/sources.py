"""Problems by the name of their source: benchmarks, files and generators.

    gsm8k, math:test, …            a benchmark (`builders`), optionally with one of its splits
    jsonl:FILE                     one problem per row; also csv:, tsv:, json: and parquet:, see `problem_files`; FILE
                                   may be a folder of files, or a pattern such as FOLDER/train-*.jsonl.gz
    tfds:FOLDER                    the folder of another TFDS dataset, `name/version`; with a split: tfds:FOLDER@train
    datasets:FOLDER                a folder written by `save_to_disk` of the Hugging Face `datasets` library
    hf:openai/gsm8k@train          a dataset of the Hugging Face hub, or the folder of a clone; see `hub_datasets`
    chain:terms=7                  chain arithmetic with solutions, see `synthetic.chains`. Solutions make errors with
                                   slip_prob=0.2 (per step) and early_guess_prob=0.2 (per solution).
    scenes:objects=4,size=84       images of colored solids with questions and solutions, see `synthetic.scenes`; also
                                   objects=3-6, colors=4, kinds=count+compare+exist, slip_prob, early_guess_prob
    reasoning_gym:chain_sum        any task of the reasoning-gym package

`3 gsm8k + 1 math:train` is a mixture: three of four problems are from gsm8k, on average.

A source is a random-access sequence of problems. The problem at an index depends only on the arguments of
`open_source`, so a position in the stream is all that a checkpoint must store.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mig_jax.data import builders, hub_datasets, problem_files
from mig_jax.data.options import did_you_mean, read_options
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import form_of
from mig_jax.data.synthetic import generators
from mig_jax.errors import UserError

SPLITS = ("train", "test")
FILES = ("jsonl", "json", "csv", "tsv", "parquet", "tfds", "datasets", "hf")
GENERATORS = {"chain": generators.open_chains, "scenes": generators.open_scenes}
SOURCE_KINDS = (*builders.BENCHMARKS, *FILES, *GENERATORS, "reasoning_gym")

# What is written after the colon, for error messages.
_ARGUMENTS = {"chain": "terms=7", "scenes": "objects=4", "reasoning_gym": "TASK"}
_MIXTURE_PART = re.compile(r"(?:(?P<weight>[0-9]*\.?[0-9]+)\s+)?(?P<name>\S.*)", re.DOTALL)


class WeightedSource(NamedTuple):
    """A source in a mixture: its name, and its weight relative to the sum of all weights."""

    name: str
    weight: float


def parse_mixture(mixture: str) -> tuple[WeightedSource, ...]:
    """Parse `3 gsm8k + 1 math:train`; a missing weight is 1, and the plus needs whitespace on both sides.

    Raises:
      UserError: a name is missing, or a weight is not positive and finite.
    """
    parts = []
    for text in re.split(r"\s\+\s", mixture):
        match = _MIXTURE_PART.fullmatch(text.strip())
        if not match:
            raise UserError(f"source {mixture!r}: a name is missing")
        weight = float(match["weight"] or 1)
        if not 0 < weight < math.inf:
            raise UserError(f"source {mixture!r}: the weight of {match['name']} must be more than 0")
        parts.append(WeightedSource(match["name"], weight))
    return tuple(parts)


def split_names(names: str) -> tuple[str, ...]:
    """Split a comma-separated list of sources, such as the three of `gsm8k,chain:terms=4,slip_prob=0.2,math:test`.

    A comma ends a name if another name follows; other commas separate options. An empty text gives ().
    """
    return tuple(filter(None, map(str.strip, re.split(r",(?=\s*(?:[0-9.]+\s+)?[\w-]+\s*(?:[:,]|$))", names))))


def source_name_error(name: str) -> str | None:
    """Return what is wrong with the name of a source, without opening it; None if nothing is."""
    kind, _, rest = name.partition(":")
    if kind not in SOURCE_KINDS:
        return _unknown_kind_error(kind)
    if kind in builders.BENCHMARKS:
        splits = builders.get_builder(kind).FILES
        return f"{kind} has no split {rest!r}; available: {', '.join(splits)}" if rest and rest not in splits else None
    if not rest:
        return f"{kind} is incomplete: write {kind}:{_ARGUMENTS.get(kind, 'PATH')}"
    if kind in GENERATORS:
        try:
            read_options(name, rest, generators.OPTIONS[kind])
        except UserError as error:
            return str(error)
    if kind in FILES and "://" in rest:
        return "remote paths are not supported; give a local folder or file"
    if kind == "hf":
        return hub_datasets.name_error(rest)
    return problem_files.path_error(kind, rest) if kind in FILES else None


def open_source(
    name: str,
    *,
    split: str,
    seed: int,
    size: int,
    data_dir: Path,
    columns: Mapping[str, str],
    bad_rows: str = "refuse",
    choice_answers: str = "",
) -> Sequence[Problem]:
    """Open one source by its name.

    Args:
      name: see the module docstring; one source without a weight.
      split: "train" or "test". Files have a single split, which serves as either. If the name of a benchmark has no
        split, "test" is the split that the benchmark is evaluated on.
      seed: of a generator.
      size: number of problems to generate; other sources have their own size.
      data_dir: the folder with a subfolder for each benchmark; see `builders.benchmark`.
      columns, bad_rows, choice_answers: how the rows of a file are read; see `problem_files.read_problems`.

    Raises:
      UserError: the source, the split, an option, a file or a row is wrong; all errors are listed.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}{did_you_mean(split, SPLITS)}; available: {', '.join(SPLITS)}")
    kind, _, rest = name.partition(":")
    if kind in builders.BENCHMARKS:
        benchmark_split = rest or ("train" if split == "train" else "")
        return builders.open_benchmark(kind, split=benchmark_split, data_dir=data_dir)
    if kind in FILES:
        return problem_files.read_problems(
            kind, rest, columns=columns, bad_rows=bad_rows, choice_answers=choice_answers, purpose=split
        )
    if kind in GENERATORS:
        return GENERATORS[kind](name, rest, split=split, seed=seed, size=size)
    if kind == "reasoning_gym":
        return generators.open_reasoning_gym(rest, split=split, seed=seed, size=size)
    raise UserError(_unknown_kind_error(kind))


def _unknown_kind_error(kind: str) -> str:
    file_format = form_of(Path(kind))
    if file_format in FILES:
        return f"unknown source {kind!r} (did you mean {file_format}:{kind}?); files are named with their format"
    meant = did_you_mean(kind, SOURCE_KINDS)
    return f"unknown source {kind!r}" + (meant or f"; available: {', '.join(SOURCE_KINDS)}")
