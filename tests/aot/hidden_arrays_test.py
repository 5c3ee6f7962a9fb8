"""What compiled programs hold and compute: no [B, T, V], no copy of the KV cache per token, FLOPs of the formula."""

import functools
import math
import re

import jax
import pytest

from mig_jax.aot.compile import open_topology
from mig_jax.aot.flops import step_flops
from mig_jax.aot.programs import GPU_OPTIONS, TrainingPrograms
from tests import tiny

QUESTIONS = 8
TOPOLOGIES = [
    pytest.param("cpu", marks=pytest.mark.slow),
    *(pytest.param(name, marks=pytest.mark.aot) for name in ("v5e:2x2", "v5p:2x2x1", "h100:4")),
]
_ARRAY = re.compile(r"\b(?:pred|bf16|[suf]\d+)\[([\d,]+)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_COPY = re.compile(r"= (\S+) (?:copy|copy-start|transpose)\(")


@functools.cache
def compiled(topology, name, **changes):
    """Return a program of a tiny run on four devices, and its rows on each of them."""
    config = tiny.get_config(**changes)
    devices = jax.devices()[:4] if topology == "cpu" else open_topology(topology).devices
    training = TrainingPrograms(config, devices)
    program = training.programs(QUESTIONS)[name]
    options = GPU_OPTIONS if devices[0].platform == "gpu" else {}
    with jax.set_mesh(training.mesh):
        lowered = program.function.lower(*program.arguments, **program.static_kwargs)
        return training, lowered.compile(options)


def sizes_of(text):
    """Return the shape of every array in a piece of HLO."""
    return [tuple(map(int, dims.split(","))) for dims in _ARRAY.findall(text)]


def in_loops(hlo):
    """Return the lines of all computations but the entry, and but those that are fused into one operation."""
    lines, name = [], ""
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            name = "ENTRY" if line.startswith("ENTRY") else found[1]
        elif name != "ENTRY" and "fused" not in name:
            lines.append(line)
    return lines


@pytest.fixture(autouse=True)
def several_libtpu(monkeypatch):
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")


@pytest.mark.parametrize("name", ["score", "update"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_array_has_rows_tokens_and_vocabulary(topology, name):
    training, executable = compiled(topology, name, optimizer__logprob_tokens=16)
    config, vocab = training.config, training.policy.config.vocab_size
    rows = QUESTIONS * config.rollout.group_size // len(training.mesh.devices.flat)
    with_vocab = [shape for shape in sizes_of(executable.as_text()) if vocab in shape]
    assert with_vocab
    assert max(map(math.prod, with_vocab)) < rows * config.rollout.max_new_tokens * vocab


@pytest.mark.parametrize("topology", TOPOLOGIES[1:])
def test_decoding_copies_no_cache_for_each_token(topology):
    """A copy of the keys of one layer would be found. On CPUs XLA may transpose what it multiplies."""
    training, executable = compiled(topology, "decode")
    shape, config = training.policy.config, training.config
    rows = QUESTIONS * config.rollout.group_size // len(training.mesh.devices.flat)
    keys = rows * config.rollout.max_new_tokens * shape.kv_heads * shape.head_size
    copies = {line: _COPY.search(line) for line in in_loops(executable.as_text())}
    sizes = {line: max(map(math.prod, sizes_of(found[1])), default=0) for line, found in copies.items() if found}
    assert [line for line, size in sizes.items() if size >= keys] == []


@pytest.mark.parametrize("name", ["prefill", "update"])
@pytest.mark.parametrize("topology", TOPOLOGIES[:-1])  # the GPU compiler counts none without a GPU
def test_flops_are_near_the_formula(topology, name):
    """The compiler counts the body of a loop once: one layer, one chunk of logits. Wide, so that products dominate."""
    wide = {f"model__init__{key}": value for key, value in (("layers", 1), ("width", 256), ("mlp_width", 1024))}
    training, executable = compiled(topology, name, **wide, optimizer__microbatches=1, optimizer__logprob_tokens=10**6)
    counted = executable.cost_analysis()["flops"] * len(training.mesh.devices.flat)
    expected = step_flops(training.config, training.policy.config)[name]
    assert counted == pytest.approx(expected, rel=0.25)
