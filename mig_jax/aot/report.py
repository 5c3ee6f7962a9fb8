"""The report of `mig-jax aot`: whether a training run fits on a topology, with how many questions, and what to change.

Also the minimum time of a step by formula. Everything is compiled, not run.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jaxlib import version as jaxlib_version
from tqdm import tqdm

from mig_jax.aot.compile import CompiledProgram, largest_that_fits, open_topology
from mig_jax.aot.flops import decode_seconds, step_flops, unused_expert_params
from mig_jax.aot.programs import TrainingPrograms
from mig_jax.check_config import check_config
from mig_jax.config import Config
from mig_jax.models import decoder
from mig_jax.trainer.update import plan_microbatches

GIB = 2**30
PARTS = ("parameters", "optimizer", "reference", "rollout parameters", "KV cache", "prompts", "batch")
REST = "activations, temporaries"


def compile_run(config: Config, topology: str, *, search: bool = True) -> dict[str, Any]:
    """Compile what `mig-jax train` would run on a topology, and find how many questions fit.

    Args:
      config: of the run.
      topology: its name, see `open_topology`.
      search: find the most questions that fit, which compiles programs for several numbers of them.

    Returns:
      The report, which can be written as JSON. `render` turns it into Markdown.

    Raises:
      UserError: the topology does not exist, or its compiler is not installed.
      ConfigError: the config has errors; it lists all of them.
    """
    devices, chip = open_topology(topology)
    check_config(config, mode="train", n_devices=len(devices))
    training, questions, available = TrainingPrograms(config, devices), config.rollout.questions, chip.hbm_gib * GIB
    shape, mesh = training.policy.config, dict(training.mesh.shape)
    # What the run would choose stands in the report.
    config = copy.deepcopy(config)
    config.optimizer.microbatches = plan_microbatches(training.policy, config, "train")[0]

    @functools.cache
    def compiled(name: str, questions: int) -> CompiledProgram:
        tqdm.write(f"compiling {name} for {questions} questions")
        return training.compile(name, questions)

    programs = {name: compiled(name, questions) for name in training.programs(questions)}
    unit = training.question_multiple
    peaks = {name: program.peak_nbytes for name, program in programs.items()}
    most = limited_by = None
    if search:
        most, limited_by = most_units(
            lambda name, n: compiled(name, n * unit).peak_nbytes, peaks, available, start=max(questions // unit, 1)
        )
    flops = step_flops(config, shape)
    return {
        "topology": topology,
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "platform": devices[0].platform,
        "jaxlib": jaxlib_version.__version__,
        "mesh": mesh,
        "weights": sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(shape))),
        "unused_weights": unused_expert_params(shape),
        "model": training.config.model.to_dict() | {"attention": shape.attention, "remat": shape.remat},
        "rollout": config.rollout.to_dict(),
        "optimizer": config.optimizer.to_dict(),
        "hbm_gib": chip.hbm_gib,
        "programs": {name: describe(program, name, config, available) for name, program in programs.items()},
        "unit": unit,
        "most_questions": None if most is None else most * unit,
        "limited_by": limited_by,
        "flops": flops,
        "floor_seconds": {name: count / (len(devices) * chip.tflops * 1e12) for name, count in flops.items()},
        "decode_memory_seconds": decode_seconds(config, shape, chips=len(devices), tensor=mesh["tensor"], chip=chip),
        "chip": {"tflops": chip.tflops, "gb_per_s": chip.gb_per_s, "source": chip.source},
    }


def most_units(
    peak_nbytes: Callable[[str, int], int], peaks: dict[str, int], available: float, *, start: int
) -> tuple[int, str | None]:
    """Return for how many units of questions every program fits, and the name of the program that limits them.

    Args:
      peak_nbytes: (program, units) → bytes at the peak.
      peaks: program → bytes at the peak, for the config's number of questions.
      available: bytes on a device.
      start: first guess.
    """
    most = limited_by = None
    # The fullest program first. The others then need to be tried only with the number that fits there.
    for name in sorted(peaks, key=lambda name: -peaks[name]):
        before = most
        most = largest_that_fits(functools.partial(peak_nbytes, name), available, start=start, limit=before)
        limited_by = name if most != before else limited_by
    return most or 0, limited_by


def describe(program: CompiledProgram, name: str, config: Config, available: float) -> dict[str, Any]:
    """Return a program's section of the report, in GiB on each device.

    It has the memory by part, whether it fits into `available` bytes, what to change if not, and the collectives.
    """
    rest = program.peak_nbytes - sum(program.part_nbytes.values())
    gib = {part: nbytes / GIB for part, nbytes in (program.part_nbytes | {REST: rest}).items()}
    fits = program.peak_nbytes <= available
    largest = sorted(gib, key=lambda part: gib[part], reverse=True)[:2]
    return {
        "gib": gib,
        "peak_gib": program.peak_nbytes / GIB,
        "fits": fits,
        "turn": [] if fits else [change for part in largest for change in suggestions(part, name, config)],
        "sent": [
            {
                "kind": collective.kind,
                "loops": list(collective.trip_counts),
                "operations": traffic.operations,
                "gib": traffic.nbytes / GIB,
            }
            for collective, traffic in program.collectives.items()
        ],
    }


def suggestions(part: str, program: str, config: Config) -> list[str]:
    """Return config changes that make a part of a program's memory smaller, with values where the config implies them.

    Args:
      part: one of `PARTS`, or `REST`.
      program: name of the program.
      config: the run's config.
    """
    m, o, mesh = config.model, config.optimizer, config.mesh
    compute_dtype = ["model.compute_dtype=bfloat16"] if m.compute_dtype == "float32" else []
    fewer = ["rollout.questions lower", "rollout.max_new_tokens lower"]
    if part in ("parameters", "optimizer", "reference"):
        shard = "mesh.fsdp=-1, mesh.data=1" if mesh.data != 1 else "mesh.fsdp higher, on more devices"
        state_dtype = ["optimizer.state_dtype=bfloat16"] if (o.state_dtype or m.param_dtype) == "float32" else []
        to_host = [] if config.loss.kl_reference_on_host else ["loss.kl_reference_on_host=True"]
        own = {"parameters": [], "optimizer": state_dtype, "reference": to_host}[part]
        param_dtype = [] if m.param_dtype == "bfloat16" else ["model.param_dtype=bfloat16"]
        adapters = [] if m.lora.rank else ["model.lora.rank=16"]
        return [shard, *own, *param_dtype, *adapters]
    if part == "rollout parameters":
        return compute_dtype + ["mesh.tensor higher", "rollout.gather_params=False"]
    if part == "KV cache":
        return compute_dtype + fewer + ["mesh.tensor higher, up to the number of key-value heads"]
    if program != "update":
        return (
            compute_dtype
            + fewer
            + (["reward.max_variants lower", "reward.max_steps lower"] if program == "score" else [])
        )
    remat = {"matmuls": ["model.remat=layer"], "layer": []}.get(m.remat, ["model.remat=matmuls"])
    return compute_dtype + remat + [f"optimizer.microbatches={2 * o.microbatches}", *fewer]


def render(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    return "\n".join(
        [
            f"# {report['model']['path'] or 'model.init'} on {report['topology']}",
            "",
            "**Compiled, not run**: no accelerator was used. Memory and collectives are the compiler's own figures "
            f"(jaxlib {report['jaxlib']}); FLOPs and minimum times are formulas (mig_jax/aot/flops.py).",
            "",
            _setup(report),
            "",
            *_memory_table(report),
            "",
            *_conclusions(report),
            "",
            *_floor_table(report),
            "",
            f"Minimum times are at {report['chip']['tflops']:g} TFLOP/s and {report['chip']['gb_per_s']:g} GB/s per "
            f"device ({report['chip']['source']}).",
            "",
            *_gather_note(report),
            *_collective_table(report),
            "",
        ]
    )


def _setup(report: dict[str, Any]) -> str:
    r, m, o = report["rollout"], report["model"], report["optimizer"]
    mesh = " × ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    unused = f" ({(report['weights'] - report['unused_weights']) / 1e9:.2f}B per token)"
    instead = " (in place of cuDNN's, which takes less memory but cannot be compiled without cuDNN)"
    return (
        f"{report['devices']} devices ({report['device_kind']}), {mesh}; {report['weights'] / 1e9:.2f}B parameters"
        f"{unused if report['unused_weights'] else ''} in "
        f"{m['param_dtype']}, computed in {m['compute_dtype']}, remat {m['remat']}, attention {m['attention']}"
        f"{instead if report['platform'] == 'gpu' else ''}; {r['questions']} questions × {r['group_size']} samples of "
        f"{r['max_new_tokens']} tokens, {o['microbatches']} micro-batches."
    )


def _memory_table(report: dict[str, Any]) -> list[str]:
    parts = [part for part in (*PARTS, REST) if any(part in p["gib"] for p in report["programs"].values())]
    rows = [["GiB on each device", *parts, "peak", f"of {report['hbm_gib']:g}"]]
    for name, program in report["programs"].items():
        over = program["peak_gib"] - report["hbm_gib"]
        sizes = [f"{program['gib'][part]:.2f}" if part in program["gib"] else "" for part in parts]
        rows.append([name, *sizes, f"{program['peak_gib']:.2f}", "fits" if over <= 0 else f"{over:.2f} too much"])
    return _table(rows)


def _conclusions(report: dict[str, Any]) -> list[str]:
    lines = [
        f"The program `{name}` does not fit. Try: {'; '.join(program['turn'])}."
        for name, program in report["programs"].items()
        if not program["fits"]
    ]
    most, unit = report["most_questions"], report["unit"]
    if report["rollout"]["questions"] % unit:
        lines.append(
            f"rollout.questions must be a multiple of {unit}, so that every device gets the same number of rows of "
            "each micro-batch."
        )
    if most is None:
        return [*lines, "The most questions that fit were not searched for."]
    if not most:
        return [*lines, "No number of questions fits."]
    return [*lines, f"At most rollout.questions={most} fits; the limit is the memory of `{report['limited_by']}`."]


def _floor_table(report: dict[str, Any]) -> list[str]:
    rows = [["program", "model PFLOPs", "minimum seconds"]]
    for name, count in report["flops"].items():
        rows.append([name, f"{count / 1e15:.3g}", f"{report['floor_seconds'][name]:.3g}"])
    total = sum(report["flops"].values()), sum(report["floor_seconds"].values())
    rows.append(["all", f"{total[0] / 1e15:.3g}", f"{total[1]:.3g}"])
    rows.append(["decode, by memory bandwidth", "", f"{report['decode_memory_seconds']:.3g}"])
    return _table(rows)


def _gather_note(report: dict[str, Any]) -> list[str]:
    sizes = [p["gib"]["rollout parameters"] for p in report["programs"].values() if "rollout parameters" in p["gib"]]
    if not sizes or not report["rollout"]["gather_params"]:
        return []
    return [f"The rollout's parameters are gathered once per step, {sizes[0]:.2f} GiB on each device.", ""]


def _collective_table(report: dict[str, Any]) -> list[str]:
    rows = [["collective", "program", "loop trip counts", "operations", "GiB on each device per run"]]
    for name, program in report["programs"].items():
        for sent in program["sent"]:
            if sent["gib"] >= 0.001:
                loops = " × ".join(map(str, sent["loops"]))
                rows.append([sent["kind"], name, loops, str(sent["operations"]), f"{sent['gib']:.3f}"])
    return _table(rows)


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]
