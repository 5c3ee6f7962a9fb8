"""Cost of sampling, scoring and the update against response length, group size G and number of steps K.

    python -m benchmarks.response_growth --out=/tmp/response_growth
    pip install -e '.[aot]'
    JAX_PLATFORMS=cpu python -m benchmarks.response_growth --compile --out=/tmp/response_growth

Without `--compile`, a tiny model with random parameters does MIG steps on this machine, one number changed at a time;
CPU seconds are recorded, summed over threads, since they depend least on what else the machine does. With `--compile`,
the programs of a 7B are compiled for a slice of v5p, and not run: recorded are the compiler's peak memory on a chip and
FLOPs by formula. Writes the numbers (.json) and draws all that are in it (.png); prints the slopes of both halves of
each curve on logarithmic axes: 1 is proportional, 0 is constant.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mig_jax.configs import pod

from benchmarks import floor, step_cost
from mig_jax import assets
from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.records import plot_style
from mig_jax.text.answers.verifier import Verifier

# What is changed, its values on this machine, and those for the compiler.
AXES = {
    "response": ([256, 512, 1024, 2048, 4096, 8192], [512, 2048, 8192]),
    "group_size": ([2, 4, 8, 16, 32], [8, 32]),
    "steps": ([4, 16, 64], [16, 64]),
}
LABELS = {"response": "response, tokens", "group_size": "group size G", "steps": "steps K"}
PARTS = ("sampling", "scoring", "update")
PROGRAMS = {"sampling": "decode", "scoring": "score", "update": "update"}
TINY = {
    "prompt": 64, "response": 512, "steps": 16, "variants": 2, "answer": 4, "questions": 2, "group_size": 4,
    "layers": 2, "width": 128, "vocab": 512, "rounds": 1, "warm_up": 1,
}  # fmt: skip
TOPOLOGY, SHAPE, GIB = "v5p:2x4x4", "qwen2_5_7b", 2**30


def run_tiny(**changes: int) -> dict[str, float]:
    """Return the CPU seconds of each part of a step: after one that compiles."""
    args = argparse.Namespace(**(TINY | changes), quickstart=False)
    config = step_cost.get_config(args)
    config.optimizer.peak_lr = 1e-9
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=jax.devices())
    with jax.set_mesh(mesh), Verifier(workers=1) as verifier:
        policy = step_cost.widen_vocabulary(load_policy(config.model, mesh, seed=0), args.vocab)
        parts = floor.Parts(step_cost.Run(policy, config, verifier, step_cost.draw_problems(args), args))
        for _ in range(args.warm_up + args.rounds):
            parts()
    return {part: floor.median(parts.laps[part][args.warm_up :]).cpu for part in PARTS}


def compile_large(**changes: int) -> dict[str, float]:
    """Return the peak GiB on a chip of each part's program, and its PFLOPs by formula."""
    from mig_jax.aot.compile import open_topology
    from mig_jax.aot.flops import step_flops
    from mig_jax.aot.programs import TrainingPrograms

    config = pod.get_config()
    config.model.path = str(assets.SHAPES / SHAPE)
    keys = {"response": "rollout.max_new_tokens", "group_size": "rollout.group_size", "steps": "reward.max_steps"}
    config.update_from_flattened_dict({keys[name]: value for name, value in changes.items()})
    training = TrainingPrograms(config, open_topology(TOPOLOGY).devices)
    flops = step_flops(config, training.policy.config)
    found = {}
    for part, program in PROGRAMS.items():
        found[part] = training.compile(program, config.rollout.questions).peak_nbytes / GIB
        found[f"{part} PFLOPs"] = flops[program] / 1e15
    return found


def slopes(values: list[float], costs: list[float]) -> str:
    """Return the slopes of the lower and the upper half of a curve on logarithmic axes."""
    middle = len(values) // 2
    ends = [(0, middle), (middle, len(values) - 1)] if len(values) > 2 else [(0, len(values) - 1)]
    return ", ".join(
        f"{math.log(costs[b] / costs[a]) / math.log(values[b] / values[a]):.2f}" for a, b in ends if costs[a] > 0
    )


def report(rows: list[dict[str, Any]]) -> None:
    """Print the slopes of every curve."""
    for source in dict.fromkeys(row["source"] for row in rows):
        for axis in AXES:
            chosen = [row for row in rows if (row["source"], row["axis"]) == (source, axis)]
            for part in [name for name in chosen[0] if name.split(" ")[0] in PARTS] if chosen else []:
                values, costs = ([row[name] for row in chosen] for name in ("value", part))
                text = " ".join(f"{cost:.3g}" for cost in costs)
                print(f"{source:9} {axis:11} {part:16} slopes {slopes(values, costs):11}  {text}")


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draw each cost against what was changed; a row of panels for each source."""
    units = {"measured": "CPU seconds", "compiled": "GiB on a chip"}
    sources = list(dict.fromkeys(row["source"] for row in rows))
    figure = Figure(figsize=(9.6, 2.9 * len(sources)), layout="constrained")
    for panels, source in zip(figure.subplots(len(sources), len(AXES), squeeze=False), sources, strict=True):
        for ax, axis in zip(panels, AXES, strict=True):
            chosen = [row for row in rows if (row["source"], row["axis"]) == (source, axis)]
            if not chosen:
                ax.set_visible(False)
                continue
            for color, part in zip(plot_style.COLORS, PARTS, strict=False):
                curve = [(row["value"], row[part]) for row in chosen]
                ax.plot(*zip(*curve, strict=True), color=color, lw=1.8, marker="o", ms=4, label=part)
            style(ax, axis, [row["value"] for row in chosen], f"{source}: {units[source]}")
    figure.savefig(path, dpi=130)


def style(ax: Axes, axis: str, values: list[int], unit: str) -> None:
    """Set labels, ticks and colors of a panel."""
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel(LABELS[axis], fontsize=9, color=plot_style.MUTED)
    ax.set_ylabel(unit, fontsize=9, color=plot_style.MUTED)
    ax.set_xticks(values, [f"{value:,}" for value in values], minor=False)
    ax.set_xticks([], minor=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(plot_style.FAINT)
    ax.grid(axis="y", color=plot_style.LINE, lw=0.7)
    ax.tick_params(labelsize=8, color=plot_style.FAINT, which="both")
    ax.legend(frameon=False, fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help=f"compile a 7B for {TOPOLOGY}, instead of running")
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=list(AXES), help="what to change")
    parser.add_argument("--at_most", type=int, default=10**9, help="leave out larger values")
    parser.add_argument("--out", default="/tmp/response_growth", help="path of figure and numbers, without extension")
    args = parser.parse_args()
    path = Path(f"{args.out}.json")
    source = "compiled" if args.compile else "measured"
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [row for row in rows if row["source"] != source or row["axis"] not in args.axes]
    for axis in args.axes:
        for value in [value for value in AXES[axis][args.compile] if value <= args.at_most]:
            cost = (compile_large if args.compile else run_tiny)(**{axis: value})
            rows.append({"source": source, "axis": axis, "value": value} | cost)
            print(rows[-1], flush=True)
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    report(rows)
    draw(rows, f"{args.out}.png")


if __name__ == "__main__":
    main()
