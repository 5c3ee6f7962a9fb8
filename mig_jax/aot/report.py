"""Does a run fit on machines that are not here, with how many questions, what to turn, how long a step must be."""

import functools
import math
from typing import Any

import jax
import jaxlib
from tqdm import tqdm

from mig_jax.aot.compile import Compiled, Run, largest_that_fits, open_topology
from mig_jax.aot.flops import decode_seconds, step_flops
from mig_jax.check_config import check_config
from mig_jax.config import Config
from mig_jax.models import decoder

GIB = 2**30
PARTS = ("parameters", "optimizer", "reference", "rollout weights", "KV cache", "prompts", "batch")
REST = "activations, temporaries"


def compile_run(config: Config, topology: str) -> dict[str, Any]:
    """Compile what `mig-jax train` would run on a topology, and find how many questions fit; `render` makes it a page.

    Raises:
      ValueError: there is no such topology, or what compiles for it is not installed.
      ConfigError: with everything that is wrong with the config.
    """
    devices, chip = open_topology(topology)
    check_config(config, mode="train", n_devices=len(devices))
    run, questions, room = Run(config, devices), config.rollout.questions, chip.hbm_gib * GIB
    shape, mesh = run.policy.config, dict(run.mesh.shape)

    @functools.cache
    def compiled(name: str, questions: int) -> Compiled:
        tqdm.write(f"compiling the {name} of {questions} questions")
        return run.compiled(name, questions)

    programs = {name: compiled(name, questions) for name in run.programs(questions)}
    units = limited_by = None
    # The fullest first: the others need then only be tried with as many questions as it leaves.
    for name in sorted(programs, key=lambda name: -programs[name].peak):
        before = units
        units = largest_that_fits(
            lambda n, name=name: compiled(name, n * run.unit).peak,
            room,
            start=max(questions // run.unit, 1),
            limit=units,
        )
        limited_by = name if units != before else limited_by
    flops = step_flops(config, shape)
    return {
        "topology": topology,
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "platform": devices[0].platform,
        "jaxlib": jaxlib.__version__,
        "mesh": mesh,
        "weights": sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(shape))),
        "model": run.config.model.to_dict() | {"attention": shape.attention},
        "rollout": config.rollout.to_dict(),
        "optimizer": config.optimizer.to_dict(),
        "hbm_gib": chip.hbm_gib,
        "programs": {name: describe(program, name, config, room) for name, program in programs.items()},
        "unit": run.unit,
        "most_questions": units * run.unit,
        "limited_by": limited_by,
        "flops": flops,
        "floor_seconds": {name: count / (len(devices) * chip.tflops * 1e12) for name, count in flops.items()},
        "decode_memory_seconds": decode_seconds(config, shape, chips=len(devices), tensor=mesh["tensor"], chip=chip),
        "chip": {"tflops": chip.tflops, "gb_per_s": chip.gb_per_s, "source": chip.source},
    }


def describe(program: Compiled, name: str, config: Config, room: float) -> dict[str, Any]:
    """A program's memory on each device in GiB by part, whether it fits, what to turn if not, and what it sends."""
    rest = program.peak - sum(program.parts.values())
    gib = {part: size / GIB for part, size in (program.parts | {REST: rest}).items()}
    fits = program.peak <= room
    largest = sorted(gib, key=gib.get, reverse=True)[:2]
    return {
        "gib": gib,
        "peak_gib": program.peak / GIB,
        "fits": fits,
        "turn": [] if fits else [lever for part in largest for lever in suggestions(part, name, config)],
        "sent": [
            {"kind": sent.kind, "loops": list(sent.loops), "operations": amount.operations, "gib": amount.nbytes / GIB}
            for sent, amount in program.sent.items()
        ],
    }


def suggestions(part: str, program: str, config: Config) -> list[str]:
    """What makes a part of a program's memory smaller: knobs, with a value where one follows from the config."""
    m, o, mesh = config.model, config.optimizer, config.mesh
    narrow = ["model.compute_dtype=bfloat16"] if m.compute_dtype == "float32" else []
    fewer = ["rollout.questions lower", "rollout.max_new_tokens lower"]
    if part in ("parameters", "optimizer", "reference"):
        spread = "mesh.fsdp=-1, mesh.data=1" if mesh.data != 1 else "mesh.fsdp higher, on more devices"
        moments = ["optimizer.state_dtype=bfloat16"] if (o.state_dtype or m.param_dtype) == "float32" else []
        copy = [] if config.loss.kl_reference_on_host else ["loss.kl_reference_on_host=True"]
        own = {"parameters": [], "optimizer": moments, "reference": copy}[part]
        adapters = [] if m.lora.rank else ["model.lora.rank=16"]
        return [spread, *own] + ([] if m.param_dtype == "bfloat16" else ["model.param_dtype=bfloat16"]) + adapters
    if part == "rollout weights":
        return narrow + ["mesh.tensor higher", "rollout.gather_params=False"]
    if part == "KV cache":
        return narrow + fewer + ["mesh.tensor higher, up to the key-value heads"]
    if program != "update":
        return narrow + fewer + (["reward.max_variants lower"] if program == "score" else [])
    less = {"none": ["model.remat=matmuls"], "matmuls": ["model.remat=layer"], "layer": []}[m.remat]
    return narrow + less + [f"optimizer.microbatches={2 * o.microbatches}", *fewer]


def render(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    mesh = " × ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    stands_in = " (cuDNN's, which takes less, cannot be compiled without it)" if report["platform"] == "gpu" else ""
    r, m, o, chip = (report[section] for section in ("rollout", "model", "optimizer", "chip"))
    lines = [
        f"# {m['path'] or 'model.init'} on {report['topology']}",
        "",
        "**Compiled, not run**: nothing here has seen a chip. Memory and collectives are what the compiler says "
        f"(jaxlib {report['jaxlib']}), FLOPs and floors are formulas (mig_jax/aot/flops.py).",
        "",
        f"{report['devices']} devices ({report['device_kind']}), {mesh}; {report['weights'] / 1e9:.2f}B weights in "
        f"{m['param_dtype']}, computed in {m['compute_dtype']}, remat {m['remat']}, attention {m['attention']}"
        f"{stands_in}; {r['questions']} questions × "
        f"{r['group_size']} samples of {r['max_new_tokens']} tokens, {o['microbatches']} micro-batches.",
        "",
        *_memory_table(report),
        "",
        *_verdict(report),
        "",
        *_floor_table(report),
        "",
        f"Floors at {chip['tflops']:g} TFLOP/s and {chip['gb_per_s']:g} GB/s a device ({chip['source']}).",
        "",
        *_sent_once(report),
        *_collective_table(report),
    ]
    return "\n".join(lines) + "\n"


def _memory_table(report: dict[str, Any]) -> list[str]:
    parts = [part for part in (*PARTS, REST) if any(part in p["gib"] for p in report["programs"].values())]
    rows = [["GiB on each device", *parts, "peak", f"of {report['hbm_gib']:g}"]]
    for name, program in report["programs"].items():
        over = program["peak_gib"] - report["hbm_gib"]
        sizes = [f"{program['gib'][part]:.2f}" if part in program["gib"] else "" for part in parts]
        rows.append([name, *sizes, f"{program['peak_gib']:.2f}", "fits" if over <= 0 else f"{over:.2f} too much"])
    return _table(rows)


def _verdict(report: dict[str, Any]) -> list[str]:
    said = [
        f"The {name} does not fit. Turn: {'; '.join(program['turn'])}."
        for name, program in report["programs"].items()
        if not program["fits"]
    ]
    most, unit = report["most_questions"], report["unit"]
    if report["rollout"]["questions"] % unit:
        said.append(
            f"rollout.questions must be a multiple of {unit}, or devices cannot share a micro-batch's rows evenly."
        )
    if not most:
        return [*said, "No number of questions fits."]
    return [*said, f"At most rollout.questions={most} fits; the {report['limited_by']} is what stops more."]


def _floor_table(report: dict[str, Any]) -> list[str]:
    rows = [["part of a step", "model PFLOPs", "seconds at least"]]
    for name, count in report["flops"].items():
        rows.append([name, f"{count / 1e15:.3g}", f"{report['floor_seconds'][name]:.3g}"])
    total = sum(report["flops"].values()), sum(report["floor_seconds"].values())
    rows.append(["all", f"{total[0] / 1e15:.3g}", f"{total[1]:.3g}"])
    rows.append(["decode, by memory", "", f"{report['decode_memory_seconds']:.3g}"])
    return _table(rows)


def _sent_once(report: dict[str, Any]) -> list[str]:
    sizes = [p["gib"]["rollout weights"] for p in report["programs"].values() if "rollout weights" in p["gib"]]
    if not sizes or not report["rollout"]["gather_params"]:
        return []
    return [f"The weights that sample and score are gathered once a step, {sizes[0]:.2f} GiB to a device.", ""]


def _collective_table(report: dict[str, Any]) -> list[str]:
    rows = [["collectives", "of the", "in loops of", "operations", "GiB on each device, a run"]]
    for name, program in report["programs"].items():
        for sent in program["sent"]:
            if sent["gib"] >= 0.001:
                loops = " × ".join(map(str, sent["loops"]))
                rows.append([sent["kind"], name, loops, str(sent["operations"]), f"{sent['gib']:.3f}"])
    return _table(rows)


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]
