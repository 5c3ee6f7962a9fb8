"""Benchmarks: builders that turn published files into problems; one module per benchmark.

Imports `mig_jax.errors` and the modules of `mig_jax.data` that read files and hold problems.

Start at `open_benchmark` (the problems of a split), `BENCHMARKS` (the names that configs and the command line know) and
`benchmark.Benchmark` (the base class). To add a benchmark, write a module with a subclass and add a line to BENCHMARKS.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mig_jax.data.problem import Problem
from mig_jax.data.tfds_package import require_tfds

if TYPE_CHECKING:
    from mig_jax.data.builders.benchmark import Benchmark

# Name → class. Each class is in the module of its name, which is imported on first use.
BENCHMARKS = {
    "gsm8k": "Gsm8k",
    "math": "Math",
    "svamp": "Svamp",
    "asdiv": "AsDiv",
    "commonsense_qa": "CommonsenseQa",
    "scq5k_en": "Scq5kEn",
    "aime_2025": "Aime2025",
    "cmm_math": "CmmMath",
    "super_clevr": "SuperClevr",
    "clevr_cogent": "ClevrCogent",
    "chartqa": "ChartQa",
    "hallusion_bench": "HallusionBench",
    "mmstar": "MmStar",
    "mathvista": "MathVista",
}


def get_builder(name: str) -> "type[Benchmark]":
    """Return the builder class of a benchmark in BENCHMARKS.

    Raises:
      UserError: TFDS cannot be imported.
    """
    return getattr(_import_builders(name), BENCHMARKS[name])


def _import_builders(name: str) -> Any:
    """Import a module of this folder."""
    require_tfds()
    return importlib.import_module(f"mig_jax.data.builders.{name}")


def open_benchmark(name: str, *, split: str, data_dir: Path) -> Sequence[Problem]:
    """Return the problems of a split; build it from the published files in `data_dir/<name>` if needed.

    Args:
      name: one of BENCHMARKS.
      split: a split of the benchmark; "" is the one that is evaluated.
      data_dir: the folder with a subfolder for each benchmark.

    Raises:
      BenchmarkError: the split does not exist, files are missing, or rows are not as published; all errors are listed.
      UserError: TFDS cannot be imported.
    """
    benchmark, builder = _import_builders("benchmark"), get_builder(name)
    split = split or builder.EVAL_SPLIT
    if split not in builder.FILES:
        raise benchmark.BenchmarkError(f"{name} has no split {split!r}; available: {', '.join(builder.FILES)}")
    built: Any = benchmark.build(builder, split=split, data_dir=data_dir)
    return benchmark.BuiltSplit(built.as_data_source(split))


def overview(data_dir: Path) -> list[str]:
    """Return lines to print: each benchmark with its splits, and for each published file its path or its address."""
    lines = []
    for name in BENCHMARKS:
        benchmark = get_builder(name)
        summary = (benchmark.__doc__ or "").split("\n")[0]
        lines += [
            f"{name}: {summary}",
            f"    {benchmark.HOMEPAGE}  license {benchmark.LICENSE}  {benchmark.PAPER}".rstrip(),
        ]
        for split in benchmark.FILES:
            builder = benchmark(split=split, data_dir=data_dir)
            found = builder.find_files()
            lines.append(f"    {name}:{split} ({'built' if builder.info.splits else 'not built'})")
            lines += [
                f"        {'✓' if file in found else '✗'} {builder.folder / file}"
                + ("" if file in found else f"  from {builder.URLS.get(file, builder.HOMEPAGE)}")
                for file in builder.files_of_split(split)
            ]
    return lines
