"""Builders of the benchmarks, by the names that configs and the command line know; see `benchmark.Benchmark`."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mig_jax.data.problem import Problem

if TYPE_CHECKING:
    from mig_jax.data.builders.benchmark import Benchmark

# Name → class; each in the module of its name, which is imported when it is asked for.
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
    """The builder class of a benchmark in BENCHMARKS."""
    return getattr(importlib.import_module(f"mig_jax.data.builders.{name}"), BENCHMARKS[name])


def open_benchmark(name: str, *, split: str, data_dir: Path) -> Sequence[Problem]:
    """The problems of a split; built from the published files in `data_dir/<name>` when that was not done yet.

    Args:
      name: one of BENCHMARKS.
      split: as the benchmark names it; "" is the one that is evaluated.

    Raises:
      BenchmarkError: there is no such split, files are missing, or rows are not as published; all of it is listed.
    """
    from mig_jax.data.builders import benchmark

    builder = get_builder(name)
    split = split or builder.EVAL_SPLIT
    if split not in builder.FILES:
        raise benchmark.BenchmarkError(f"{name} has no split {split!r}; there are {', '.join(builder.FILES)}")
    return benchmark.Records(benchmark.build(builder, split=split, data_dir=data_dir).as_data_source(split))


def overview(data_dir: Path) -> list[str]:
    """Lines for people: every benchmark, its splits, and for each published file whether it is there or where it is."""
    lines = []
    for name in BENCHMARKS:
        benchmark = get_builder(name)
        about = benchmark.__doc__.split("\n")[0]
        lines += [
            f"{name}: {about}",
            f"    {benchmark.HOMEPAGE}  licence {benchmark.LICENCE}  {benchmark.PAPER}".rstrip(),
        ]
        for split in benchmark.FILES:
            builder = benchmark(split=split, data_dir=data_dir)
            found = builder.find_files()
            lines.append(f"    {name}:{split} ({'built' if builder.info.splits else 'not built'})")
            lines += [
                f"        {'✓' if file in found else '✗'} {builder.folder / file}"
                + ("" if file in found else f"  from {builder.URLS.get(file, builder.HOMEPAGE)}")
                for file in builder.files_of(split)
            ]
    return lines
