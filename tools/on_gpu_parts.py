"""The parts of `on_gpu.py` that measure: each writes rows of the table as JSON.

    python tools/on_gpu_parts.py attention /tmp/attention.json

It is also a plugin of pytest, which skips tests that need more devices than there are.
"""

import argparse
import dataclasses
import functools
import glob
import gzip
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks/, and where mig_jax is not installed

from mig_jax.models import kernel_choice  # noqa: E402
from tools.attention_parity import attention_parity  # noqa: E402
from tools.timing import Rows, time_call  # noqa: E402

PACKAGES = ("mig_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
VOCAB = 151_936


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Skip a test whose mesh has more devices than this machine."""
    from mig_jax.errors import UserError

    try:
        return (yield)
    except UserError as error:
        if f"does not fit {jax.device_count()} devices" not in str(error):
            raise
        pytest.skip(f"{item.name} needs more devices")


# --------------------------------------------------------------------------------------------------------- environment


def environment(rows: Rows, *, is_small: bool) -> None:
    """Report the machine, its software, and the rates of a large matrix product and a large copy."""
    device = jax.devices()[0]
    version = device.client.platform_version
    backend = next((name for name in ("cuda", "rocm") if name in version), device.platform)
    capability = kernel_choice.compute_capability(device)
    rows.add("backend", backend)
    rows.add("devices", f"{jax.device_count()} × {device.device_kind}")
    rows.add("compute capability", ".".join(map(str, capability)) if capability else "–")
    rows.add("driver", nvidia_driver())
    rows.add("runtime", " ".join(version.split()))
    choose = functools.partial(kernel_choice.choose_kernel, "", device=device, head_size=128)
    kernels = {dtype: choose(dtype=dtype) for dtype in ("bfloat16", "float32")}
    rows.add("attention kernel", ", ".join(f"{kernel} in {dtype}" for dtype, kernel in kernels.items()))
    rows.add("host", f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}")
    rows.add("packages", ", ".join(f"{name} {package_version(name)}" for name in PACKAGES))
    memory = (device.memory_stats() or {}).get("bytes_limit")
    rows.add("device memory that JAX takes", f"{memory / 2**30:.1f} GiB" if memory else "–")
    n = 512 if is_small else 8192
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
    seconds = time_call(jax.jit(lambda x: x @ x), x)
    rows.add(f"matrix product {n}³ in bfloat16", f"{2 * n**3 / seconds / 1e12:.1f} TFLOP/s")
    big = jnp.ones((2**20 if is_small else 2**30,), jnp.bfloat16)
    rows.add("copy, read and written", f"{2 * big.nbytes / time_call(jax.jit(lambda x: x + 1), big) / 1e9:.0f} GB/s")


def nvidia_driver() -> str:
    """Return the driver's version, or a dash without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "–"


def package_version(name: str) -> str:
    """Return the version of an installed package; that of mig_jax itself need not be installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


# ---------------------------------------------------------------------------------------------------------------- step


class Shape(NamedTuple):
    """Sizes of a step. prompt, response, answer: in tokens. rounds: steps that are timed, after two that compile."""

    questions: int
    group_size: int
    prompt: int
    response: int
    microbatches: int
    steps: int = 16
    variants: int = 4
    answer: int = 8
    rounds: int = 3


STEP, LARGE = Shape(16, 16, 256, 512, 16), Shape(32, 16, 256, 1024, 32, rounds=2)
SMALL = Shape(2, 2, 32, 200, 1, steps=10, rounds=1)


def train_step(rows: Rows, *, is_small: bool, method: str, shape: Shape) -> None:
    """Time whole steps of a model with random parameters: sample, grade, score, update.

    Every row has a response of full length with all steps, as in `benchmarks/step_cost.py`.
    """
    from benchmarks import step_cost
    from mig_jax.distributed import sharding
    from mig_jax.policy.load import load_policy
    from mig_jax.text.answers.verifier import Verifier

    shape, vocab = (SMALL, 1000) if is_small else (shape, VOCAB)
    sizes = argparse.Namespace(**shape._asdict(), layers=2 if is_small else 24, width=128 if is_small else 896)
    sizes.quickstart = False
    config = step_cost.change(step_config(step_cost.get_config(sizes), shape, is_small), method)
    mesh = sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(workers=config.verifier.workers) as verifier:
        policy = step_cost.widen_vocabulary(load_policy(config.model, mesh, seed=0), vocab)
        # All ids have a text, so all are sampled, and almost no row ends before its limit.
        texts = policy.tokenizer.token_bytes
        texts = (*texts, *[b"x"] * (vocab - len(texts)))
        policy = dataclasses.replace(policy, tokenizer=dataclasses.replace(policy.tokenizer, token_bytes=texts))
        run = step_cost.Run(policy, config, verifier, step_cost.draw_problems(sizes), sizes)
        decoder = policy.config
        del policy  # the run has a copy of the parameters
        seconds = [run(jax.random.key(n)) for n in range(2 + shape.rounds)]
        medians = {name: statistics.median(step[name] for step in seconds[2:]) for name in seconds[0]}
        profile = profile_step(lambda: run(jax.random.key(99)))
    report_times(rows, config, decoder, medians, seconds[0]["step"])
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    rows.add("peak device memory", f"{memory / 2**30:.1f} GiB" if memory else "–")
    for name, value in profile:
        rows.add(name, value)


def report_times(rows: Rows, config: Any, decoder: Any, medians: dict[str, float], first: float) -> None:
    """Report the seconds of a step and its parts, beside the rates of the device where they are known."""
    from mig_jax.aot import flops

    kind = jax.devices()[0].device_kind.lower()
    chip = next((chip for name, chip in flops.CHIPS.items() if name in kind), None)
    batch, response = config.rollout.questions * config.rollout.group_size, config.rollout.max_new_tokens
    prompt = config.data.max_prompt_tokens
    rows.add("rows × (prompt + response)", f"{batch} × ({prompt} + {response}), {decoder.attention} attention")
    rows.add("first step, with compilation", f"{first:.1f} s")
    rows.add("step", f"{medians['step']:.3f} s, {batch * response / medians['step']:,.0f} response tokens/s")
    text = f"{medians['rollout']:.3f} s, {batch * response / medians['rollout']:,.0f} tokens/s"
    if chip:
        floor = flops.decode_seconds(config, decoder, chips=1, tensor=1, chip=chip)
        text += f" (no less than {floor:.3f} s at {chip.gb_per_s:.0f} GB/s)"
    rows.add("sample", text)
    rows.add("score, with grading", f"{medians['grade'] + medians['score']:.3f} s")
    rate = flops.step_flops(config, decoder)["update"] / medians["update"] / 1e12
    share = f" ({rate / chip.tflops:.0%} of {chip.tflops:.0f})" if chip else ""
    rows.add("update", f"{medians['update']:.3f} s, {rate:.3g} model TFLOP/s{share}")


def step_config(config: Any, shape: Shape, is_small: bool) -> Any:
    """Set the shape of Qwen2.5-0.5B, bfloat16 activations and the micro-batches."""
    config.model.compute_dtype = "bfloat16"
    config.optimizer.microbatches = shape.microbatches
    if not is_small:
        init = config.model.init
        init.heads, init.kv_heads, init.head_size, init.mlp_width, init.rope_theta = 14, 2, 64, 4864, 1e6
    return config


def profile_step(step: Callable[[], Any]) -> list[tuple[str, str]]:
    """Profile one step; return device seconds of its programs, and of the five longest operations."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with jax.profiler.trace(folder):
                step()
            (path,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
            with gzip.open(path, "rt", encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
        except Exception as error:  # a profiler that does not work is no failure of what is measured
            return [("profile", f"not available: {type(error).__name__}: {error}"[:200])]
    # On the lines of the devices, where there are any: the host's lines have the same operations again.
    names = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    devices = {pid for pid, name in names.items() if name.startswith("/device:")} or set(names)
    programs, operations = Counter[str](), Counter[str]()
    for event in events:
        operation = (event.get("args") or {}).get("hlo_op", "while")
        # These contain other operations, which have events of their own.
        if event.get("pid") in devices and operation.split(".")[0] not in ("while", "call", "conditional"):
            program = event["args"].get("hlo_module", "?")
            programs[program] += event["dur"]
            operations[f"{program}/{operation}"] += event["dur"]
    return [
        ("profile, device time by program", format_times(programs, 6)),
        ("profile, longest operations", format_times(operations, 5)),
    ]


def format_times(microseconds: Counter[str], n: int) -> str:
    """Return the n longest, such as "jit_decode 1.204 s"."""
    return ", ".join(f"{name} {time / 1e6:.3f} s" for name, time in microseconds.most_common(n)) or "no events"


PARTS = {
    "environment": environment,
    "attention": attention_parity,
    "mig": functools.partial(train_step, method="mig", shape=STEP),
    "grpo": functools.partial(train_step, method="grpo", shape=STEP),
    "large": functools.partial(train_step, method="mig", shape=LARGE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("output", type=Path, help="JSON file for the rows")
    parser.add_argument("--small", action="store_true", help="tiny shapes")
    options = parser.parse_args()
    rows = Rows()
    try:
        PARTS[options.part](rows, is_small=options.small)
    finally:
        options.output.write_text(json.dumps(rows.rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
