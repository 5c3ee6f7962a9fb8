"""What can be said of 70B parameters without training them? (open question 1 of the paper)

Two parts. By formula, and by the TPU compiler where it is installed: does a step fit, and how long must it take. By
training policies of several widths: do the signs of an unstable run grow with width.
"""

import importlib.util
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from mig_jax import assets
from mig_jax.aot import flops
from mig_jax.aot.report import compile_run
from mig_jax.config_sources import load_config
from mig_jax.models import decoder
from mig_jax.models.huggingface.config import read_config
from mig_jax.records import plot_style
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.metrics import column
from mig_jax.studies import actions
from mig_jax.studies.arms import count
from mig_jax.studies.levels import SLIPS
from mig_jax.studies.study import Analysis, Job, Plan, Results, Run, Study, Table

ESTIMATE = "estimate.json"
# Of a parameter: itself, its gradient, and Adam's two moments, in float32.
STATE_BYTES = 16
# Shape → topology that its step is planned for, and its chip.
SHAPES = {"qwen2_5_7b": ("v5p:2x4x4", "v5p"), "qwen2_5_32b": ("v5p:4x4x4", "v5p"), "qwen2_5_72b": ("v5p:4x4x8", "v5p")}
WIDTHS = (32, 64, 128)
# Metric → what a growth with width would mean.
PROXIES = {
    "gradient/norm": "gradient norm before clipping",
    "ratio/clipped_process": "clipped, process stream",
    "kl/old": "KL to the sampling policy, nats",
    "policy/entropy": "entropy, nats",
}


def estimate(job: Job) -> None:
    """Write what the formulas say of a step of the option `shape`, and the TPU compiler's report if `compile` is set.

    The step is that of configs/pod.py, whatever the config of the study is.
    """
    shape, (topology, kind) = job.run.options["shape"], SHAPES[job.run.options["shape"]]
    config = load_config("pod", model={"path": str(assets.SHAPES / shape)})
    decoder_shape = read_config(assets.SHAPES / shape)
    chip, chips = flops.CHIPS[kind], math.prod(int(n) for n in topology.partition(":")[2].split("x"))
    n_params = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(decoder_shape)))
    of_programs = flops.step_flops(config, decoder_shape)
    found = {
        "parameters": n_params,
        "topology": topology,
        "chips": chips,
        "state_gib": STATE_BYTES * n_params / chips / 2**30,
        "hbm_gib": chip.hbm_gib,
        "seconds": {name: n / (chips * chip.tflops * 1e12) for name, n in of_programs.items()},
        "compiled": compile_run(config, topology)["programs"] if job.run.options["compile"] else None,
    }
    with replace_file(job.folder / ESTIMATE) as file:
        json.dump(found, file, indent=1)


def plan_runs(plan: Plan) -> list[Run]:
    """Return the estimates; then, seed by seed, a policy of every width, taught and trained."""
    has_compiler = importlib.util.find_spec("libtpu") is not None and not plan.smoke
    runs = [
        Run(f"estimate/{shape}", estimate, arm="estimate", setting=shape, options=options)
        for shape in SHAPES
        if (options := {"shape": shape, "compile": has_compiler})
    ]
    for seed in range(plan.seeds):
        for width in WIDTHS:
            name, changes = f"width_{width}/seed_{seed}", {} if plan.smoke else _shape_of(width)
            runs.append(Run(f"{name}_start", actions.sft, changes, seed, "start", str(width)))
            runs.append(Run(name, actions.train, {}, seed, "mig", str(width), model=f"{name}_start"))
    return runs


def _shape_of(width: int) -> dict[str, Any]:
    """Return the changes that train a policy of another width from random parameters."""
    shape = {"width": width, "mlp_width": 3 * width, "heads": width // 16, "kv_heads": width // 32, "head_size": 16}
    learning = {"steps": 1000, "optimizer.peak_lr": 2e-3, "optimizer.warmup_steps": 100, "optimizer.decay": "cosine"}
    start = {"model.path": "", "model.tokenizer": "characters", "data.train": f"chain:terms=7,{SLIPS}"}
    return {**start, **learning, **{f"model.init.{key}": value for key, value in shape.items()}}


def analyze(results: Results) -> Analysis:
    """Tabulate the estimates, and the proxies against width."""
    estimates = {
        run.setting: json.loads((results.folder(run.name) / ESTIMATE).read_text(encoding="utf-8"))
        for run in results.finished(arm="estimate")
    }
    # Metric → width → mean over the run, by seed.
    proxies: dict[str, dict[int, list[float]]] = {
        metric: {
            width: [float(column(results.rows(run), metric)[1].mean()) for run in runs]
            for width in WIDTHS
            if (runs := results.finished(arm="mig", setting=str(width)))
        }
        for metric in PROXIES
    }
    proxies = {metric: of_widths for metric, of_widths in proxies.items() if of_widths}
    findings = [
        f"{shape}, {e['parameters'] / 1e9:.1f}B parameters on {e['topology']}: {e['state_gib']:.1f} of "
        f"{e['hbm_gib']:.1f} GiB of a chip for parameters, gradient and Adam; a step takes at least "
        f"{sum(e['seconds'].values()):.1f} s by FLOPs."
        for shape, e in estimates.items()
    ]
    findings += [_growth(metric, of_widths) for metric, of_widths in proxies.items() if len(of_widths) > 1]
    return Analysis(findings, _tables(estimates, proxies), (), _draw(proxies) if proxies else None)


def _growth(metric: str, of_widths: Mapping[int, list[float]]) -> str:
    narrow, wide = min(of_widths), max(of_widths)
    a, b = float(np.mean(of_widths[narrow])), float(np.mean(of_widths[wide]))
    return f"{PROXIES[metric]}: {a:.4f} at width {narrow}, {b:.4f} at width {wide}."


def _tables(estimates: Mapping[str, Any], proxies: Mapping[str, Mapping[int, list[float]]]) -> list[Table]:
    """Return the tables of both parts, where there is something to show."""
    rows = [
        [
            shape,
            f"{e['parameters'] / 1e9:.1f}B",
            e["topology"],
            f"{e['state_gib']:.1f} of {e['hbm_gib']:.1f}",
            _compiled_peak(e["compiled"]),
            *(f"{e['seconds'].get(name, 0):.1f}" for name in ("decode", "score", "update")),
        ]
        for shape, e in estimates.items()
    ]
    columns = ("shape", "parameters", "topology", "state, GiB a chip", "compiled peak, GiB a chip")
    tables = [Table("By formula and compiler", (*columns, "decode, s", "score, s", "update, s"), rows)] if rows else []
    if proxies:
        widths = sorted({width for of_widths in proxies.values() for width in of_widths})
        rows = [
            [
                PROXIES[metric],
                *(
                    f"{np.mean(of_widths[w]):.4f} ± {np.std(of_widths[w]):.4f}" if w in of_widths else ""
                    for w in widths
                ),
            ]
            for metric, of_widths in proxies.items()
        ]
        seeds = max(len(values) for of_widths in proxies.values() for values in of_widths.values())
        title = f"Signs of an unstable run, mean over the run ± standard deviation over {count(seeds, 'seed')}"
        tables.append(Table(title, ("metric", *(f"width {w}" for w in widths)), rows))
    return tables


def _compiled_peak(programs: Mapping[str, Any] | None) -> str:
    if not programs:
        return "not compiled"
    name = max(programs, key=lambda name: programs[name]["peak_gib"])
    return f"{programs[name]['peak_gib']:.1f} ({name})"


def _draw(proxies: Mapping[str, Mapping[int, list[float]]]) -> Figure:
    """Draw every proxy against width, relative to the narrowest."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    for number, (metric, of_widths) in enumerate(proxies.items()):
        first = float(np.mean(of_widths[min(of_widths)]))
        relative = [float(np.mean(values)) / first if first else float("nan") for values in of_widths.values()]
        color = plot_style.COLORS[number % len(plot_style.COLORS)]
        ax.plot(list(of_widths), relative, color=color, marker="o", ms=4, label=PROXIES[metric])
    ax.axhline(1, color=plot_style.FAINT, ls=":")
    ax.set(xlabel="width", ylabel=f"relative to width {min(WIDTHS)}", xscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


STUDY = Study(
    name="scale",
    question="What can be said of 70B parameters from memory, FLOPs and the widths that can be trained?",
    hypotheses=(
        "A step of 72B fits on 128 chips of v5p with parameters and Adam's moments in float32.",
        "At the same learning rate, the gradient norm and the share of clipped tokens do not grow with width.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={
        "steps": 20,
        "data.eval_size": 64,
        "rollout.questions": 16,
        "eval.at_start": False,
        "eval.at_end": False,
        "eval.every": 0,
        "checkpoint.every": 500,
        "log.transcripts_every": 100,
        "log.writers": (),
    },
    limits=(
        "Nothing here shows that MIG improves a model of 70B parameters: no such model was trained.",
        "Times by FLOPs are lower bounds; decoding is bound by memory bandwidth, and nothing was run on a TPU.",
        "Widths of 32 to 128 are far from 8,192, and all of them learn one task of digits.",
    ),
)
