"""Cost of an update per chip as chips are added, at a fixed batch: memory, and bytes received from other chips.

    pip install -e '.[aot]' && JAX_PLATFORMS=cpu python benchmarks/cost_growth.py --out docs/cost_growth

Compiled for slices of v5p, not run: the figures are the compiler's own. One narrow model and one batch of 1,024 rows,
on 8 to 1,024 chips; the mesh has all of them in `fsdp`, or 8 of them in `tensor`. Takes a quarter of an hour on two
cores. Prints the numbers, and writes them (.json) with a figure (.png).
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mig_jax.configs import pod

from mig_jax.aot import collectives
from mig_jax.aot.compile import open_topology
from mig_jax.aot.programs import TrainingPrograms
from mig_jax.records import plot_style

SLICES = {8: "2x2x2", 32: "2x4x4", 128: "4x4x8", 512: "8x8x8", 1024: "8x8x16"}
TENSOR = {"fsdp alone": 1, "fsdp × tensor 8": 8}
GIB = 2**30

# The width is the largest number of chips, so that `fsdp` divides it.
SHAPE = {
    "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "eos_token_id": 0,
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 32_768, "tie_word_embeddings": True, "max_position_embeddings": 4096,
}  # fmt: skip


def get_config(folder: str, tensor: int) -> Any:
    """Return a config of 1,024 rows of 256 tokens: 128 rows per chip on 8 chips. Layers are rematerialized."""
    c = pod.get_config()
    c.model.path = folder
    c.data.max_prompt_tokens, c.rollout.max_new_tokens = 64, 192
    c.rollout.questions, c.rollout.group_size, c.optimizer.microbatches = 1024, 1, 1
    c.optimizer.logprob_tokens = 512
    c.mesh.tensor = tensor
    return c


def measure(folder: str, chips: int, tensor: int) -> dict[str, Any]:
    """Compile an update for this many chips; return the compiler's figures for each of them."""
    began = time.perf_counter()
    devices, _ = open_topology(f"v5p:{SLICES[chips]}")
    config = get_config(folder, tensor)
    program = TrainingPrograms(config, devices).compile("update", config.rollout.questions)
    received: dict[str, int] = dict.fromkeys(sorted(collectives.KINDS), 0)
    for collective, traffic in program.collectives.items():
        received[collective.kind] += traffic.nbytes
    return {
        "chips": chips,
        "tensor": tensor,
        "peak_gib": program.peak_nbytes / GIB,
        "state_gib": sum(program.part_nbytes[part] for part in ("parameters", "optimizer")) / GIB,
        "sent_gib": sum(received.values()) / GIB,
        "sent_gib_by_kind": {kind: nbytes / GIB for kind, nbytes in received.items() if nbytes},
        "compile_seconds": time.perf_counter() - began,
    }


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draw memory and received bytes against the number of chips, on logarithmic axes."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = zip(figure.subplots(1, 2), (("peak_gib", "Memory"), ("sent_gib", "Received per update")), strict=True)
    for ax, (name, title) in panels:
        for color, (label, tensor) in zip(plot_style.COLORS, TENSOR.items(), strict=False):
            curve = [(row["chips"], row[name]) for row in rows if row["tensor"] == tensor]
            ax.plot(*zip(*curve, strict=True), color=color, lw=1.8, marker="o", ms=4, label=label)
        style(ax, title)
    figure.savefig(path, dpi=130)


def style(ax: Axes, title: str) -> None:
    """Set title, labels, ticks and colors of a panel."""
    ax.set_title(title, fontsize=10, loc="left", color=plot_style.INK, fontweight="bold")
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel("chips, at 1,024 rows in total", fontsize=9, color=plot_style.MUTED)
    ax.set_ylabel("GiB on each chip", fontsize=9, color=plot_style.MUTED)
    ax.set_xticks(list(SLICES), [f"{chips:,}" for chips in SLICES], minor=False)
    ax.set_xticks([], minor=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(plot_style.FAINT)
    ax.grid(axis="y", color=plot_style.LINE, lw=0.7)
    ax.tick_params(labelsize=8, color=plot_style.FAINT, which="both")
    ax.legend(frameon=False, fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", default="/tmp/cost_growth", help="path of the figure and the numbers, without extension"
    )
    parser.add_argument(
        "--chips", type=int, nargs="+", default=list(SLICES), choices=list(SLICES), help="numbers of chips"
    )
    options = parser.parse_args()
    print("| chips | mesh | peak, GiB | parameters and optimizer, GiB | received, GiB | compile time, s |")
    print("|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(SHAPE, file)
        for label, tensor in TENSOR.items():
            for chips in options.chips:
                row = measure(folder, chips, tensor)
                rows.append(row)
                cells = (f"{row[name]:.2f}" for name in ("peak_gib", "state_gib", "sent_gib"))
                print(f"| {chips:,} | {label} | {' | '.join(cells)} | {row['compile_seconds']:.0f} |", flush=True)
    with open(f"{options.out}.json", "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
    draw(rows, f"{options.out}.png")


if __name__ == "__main__":
    main()
