"""Where problems come from: benchmarks, files and generators, behind one sequence.

    gsm8k, math:test, …            a benchmark (`builders`), of whose splits one may be named
    jsonl:FILE                     one problem a row; also csv:, tsv:, json: and parquet:, see `problem_files`
    tfds:FOLDER                    a split's folder of another TFDS dataset, `name/version`, as in tfds:FOLDER@train
    datasets:FOLDER                what `save_to_disk` of the datasets library has written
    chain:terms=7                  our own chain arithmetic, with demonstrations (see `procedural`), which have each
                                   step wrong, or stop early and guess, as often as slip_prob=0.2 and early_guess_prob=0.2 say
    scenes:objects=4,size=84       pictures of coloured solids with questions and demonstrations (see `scenes`); also
                                   objects=3-6, colors=4, kinds=count+compare+exist, slip_prob=0.1, early_guess_prob=0.1
    reasoning_gym:chain_sum        any task of the reasoning-gym package

Several are mixed as in "3 gsm8k + 1 math:train": of four problems three are of gsm8k, in the mean.

Sources are random-access sequences, and what stands at an index depends on the arguments of `open_source` alone: there
is nothing to save but a position.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mig_jax.data import builders, problem_files
from mig_jax.data.options import did_you_mean, read_options
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic import generators

SPLITS = ("train", "test")
FILES = ("jsonl", "json", "csv", "tsv", "parquet", "tfds", "datasets")
GENERATORS = {"chain": generators.chains, "scenes": generators.scene_questions}
SOURCE_KINDS = (*builders.BENCHMARKS, *FILES, *GENERATORS, "reasoning_gym")

_PART = re.compile(r"(?:(?P<weight>[0-9]*\.?[0-9]+)\s+)?(?P<name>\S.*)", re.DOTALL)


class WeightedSource(NamedTuple):
    """A source in a mixture: its name, and how much of the mixture it is, in parts of the sum of all weights."""

    name: str
    weight: float


def parse_mixture(mixture: str) -> tuple[WeightedSource, ...]:
    """The sources of `3 gsm8k + 1 math:train`; weights that are left out are 1. The plus stands between blanks.

    Raises:
      ValueError: a name is missing, or a weight is 0.
    """
    parts = []
    for text in re.split(r"\s\+\s", mixture):
        match = _PART.fullmatch(text.strip())
        if not match:
            raise ValueError(f"source {mixture!r}: a name is missing")
        weight = float(match["weight"] or 1)
        if not 0 < weight < math.inf:
            raise ValueError(f"source {mixture!r}: the weight of {match['name']} must be more than 0")
        parts.append(WeightedSource(match["name"], weight))
    return tuple(parts)


def split_names(names: str) -> tuple[str, ...]:
    """The sources of `gsm8k,chain:terms=4,slip_prob=0.2,math:test`, three in all; () of an empty text.

    A comma ends a name when another name follows; the others are between options.
    """
    return tuple(filter(None, map(str.strip, re.split(r",(?=\s*(?:[0-9.]+\s+)?[\w-]+\s*(?:[:,]|$))", names))))


def source_name_error(name: str) -> str:
    """What can be told to be wrong with the name of a source without opening it; "" when nothing."""
    kind, _, rest = name.partition(":")
    if kind not in SOURCE_KINDS:
        return f"no source {kind!r}{did_you_mean(kind, SOURCE_KINDS)}; there are {', '.join(SOURCE_KINDS)}"
    if kind not in builders.BENCHMARKS and not rest:
        return f"{kind} of what? {kind}:…"
    if kind in builders.BENCHMARKS and rest and rest not in builders.get_builder(kind).FILES:
        return f"{kind} has no split {rest!r}; there are {', '.join(builders.get_builder(kind).FILES)}"
    if kind in GENERATORS:
        try:
            read_options(name, rest, generators.OPTIONS[kind])
        except ValueError as error:
            return str(error)
    if kind in FILES and not problem_files.place_of(kind, rest)[0].exists():
        return "no such folder" if kind in problem_files.FOLDERS else "no such file"
    return ""


def open_source(
    name: str, *, split: str, seed: int, size: int, data_dir: Path, columns: Mapping[str, str]
) -> Sequence[Problem]:
    """Opens one source by its name.

    Args:
      name: as at the top of this file, one source without a weight.
      split: train or test. Files are one split as they stand; of a benchmark "test" is the split that is evaluated.
      seed: of a generator.
      size: problems to generate; others are as long as they are.
      data_dir: where benchmarks are, each in its folder; see `builders.benchmark`.
      columns: where the fields of a problem are in rows of files; see `problem_files`.

    Raises:
      ValueError: the source, the split, an option, a file or a row is wrong; all that is wrong is listed.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}{did_you_mean(split, SPLITS)}; there are {', '.join(SPLITS)}")
    kind, _, rest = name.partition(":")
    if kind in builders.BENCHMARKS:
        named = rest or ("train" if split == "train" else "")
        return builders.open_benchmark(kind, split=named, data_dir=data_dir)
    if kind in FILES:
        return problem_files.read_problems(kind, rest, columns=columns)
    if kind in GENERATORS:
        return GENERATORS[kind](name, rest, split=split, seed=seed, size=size)
    if kind == "reasoning_gym":
        return generators.reasoning_gym_task(rest, split=split, seed=seed, size=size)
    raise ValueError(source_name_error(name))
