"""Compilation of one program for devices that are not attached: what it needs of their memory, and how much fits.

Programs are compiled, not run. Memory is what the compiler reports for a program, plus what each device holds besides
while that program runs.
"""

import importlib.util
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from mig_jax.aot.collectives import Collective, Traffic, read_collectives
from mig_jax.aot.flops import CHIPS, Chip
from mig_jax.errors import UserError

# Error message of the TPU compiler for a program that does not fit.
_OUT_OF_MEMORY = re.compile(r"\(([\d.]+)([MG])\) exceeds available HBM")
_UNITS = {"M": 2**20, "G": 2**30}


class Program(NamedTuple):
    """A jitted function with abstract arguments.

    function: the result of `jax.jit`.
    arguments: pytrees of `jax.ShapeDtypeStruct` with shardings.
    operands: part of memory → pytree of such shapes, the function's arguments and results.
    resident: part of memory → pytree of such shapes, arrays of other programs that stay on the devices meanwhile.
    static_kwargs: static arguments.
    """

    function: Any
    arguments: tuple[Any, ...]
    operands: dict[str, Any]
    resident: dict[str, Any]
    static_kwargs: dict[str, Any] = {}


class CompiledProgram(NamedTuple):
    """Memory and collectives of a program on each device, as the compiler reports them: compiled, not run.

    part_nbytes: part → bytes, for the parts in `Program.operands` and `Program.resident`.
    peak_nbytes: maximum bytes in use, all parts included. The rest of it is activations and temporaries.
    collectives: empty if the program does not fit.
    output_shardings: of the function's results; None if the program does not fit.
    """

    part_nbytes: dict[str, int]
    peak_nbytes: int
    collectives: dict[Collective, Traffic]
    output_shardings: Any


class Topology(NamedTuple):
    """Devices to compile for. devices: `jax.Device`s, not attached; chip: what each of them is."""

    devices: list[Any]
    chip: Chip


def open_topology(name: str) -> Topology:
    """Return a topology by its name, such as "v5p:4x4x8" (a TPU slice) or "h100:8".

    Raises:
      UserError: the chip or slice does not exist, or its compiler is not installed.
    """
    kind, _, size = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+" if CHIPS[kind].target else r"\d+(x\d+)+", size):
        raise UserError(
            f"--topology={name!r}: give a chip and how many, such as v5p:4x4x8 or h100:8; chips: {', '.join(CHIPS)}"
        )
    chip = CHIPS[kind]
    module, extra = ("jax_cuda12_plugin", "aot-gpu") if chip.target else ("libtpu", "aot")
    if importlib.util.find_spec(module) is None:
        raise UserError(f"--topology={name}: its compiler is not installed: pip install 'mig_jax[{extra}]'")
    gpu = {"topology": f"1x1x{size}", "target_config": chip.target} if chip.target else {}
    try:
        topology = topologies.get_topology_desc("" if gpu else name, "cuda" if gpu else "tpu", **gpu)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={name}: the compiler does not accept this slice: {error}") from error
    return Topology(list(topology.devices), chip)


def compile_program(program: Program, options: dict[str, Any]) -> CompiledProgram:
    """Compile a program. One that does not fit is not an error: its memory is in the result.

    Args:
      program: what to compile.
      options: XLA compiler options.
    """
    resident = {part: nbytes_on_device(tree) for part, tree in program.resident.items()}
    parts = {part: nbytes_on_device(tree) for part, tree in program.operands.items()} | resident
    others = sum(resident.values())
    try:
        executable = program.function.lower(*program.arguments, **program.static_kwargs).compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not (needed := _OUT_OF_MEMORY.search(str(error))):
            raise
        return CompiledProgram(parts, others + int(float(needed[1]) * _UNITS[needed[2]]), {}, None)
    m, text = executable.memory_analysis(), executable.as_text()
    if m is None or text is None:
        raise NotImplementedError("this compiler does not report a program's memory or text")
    total = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.temp_size_in_bytes
    # XLA drops arguments that a program does not use, but they are in memory all the same.
    unused = max(0, nbytes_on_device(program.arguments) - m.argument_size_in_bytes)
    # The GPU compiler reports no peak.
    peak = others + unused + (m.peak_memory_in_bytes or total)
    return CompiledProgram(parts, peak, read_collectives(text), executable.output_shardings)


def nbytes_on_device(tree: Any) -> int:
    """Return the bytes of a pytree of sharded shapes on one device; they are the same on all."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def largest_that_fits(
    needed_at: Callable[[int], float], available: float, *, start: int, limit: int | None = None
) -> int:
    """Return about the largest n ≥ 1 with needed_at(n) ≤ available, or 0 if there is none.

    `needed_at` is slow (it compiles a program) and about linear. Each guess is therefore on the line through the two
    known points nearest to `available`. The result fits for certain; by that line, at most a fiftieth more would.

    Args:
      needed_at: n → bytes.
      available: bytes.
      start: first guess where there is no limit.
      limit: largest n to return, and the first guess; None for any.
    """
    known: dict[int, float] = {}
    low, high = 0, limit + 1 if limit is not None else None  # low fits (or is 0), high does not (None: not known)
    guess = start if limit is None else limit
    while low < guess and (high is None or guess < high):
        known[guess] = needed_at(guess)
        low, high = (guess, high) if known[guess] <= available else (low, guess)
        if len(known) == 1:
            guess = 2 * low if high is None else min(2 * low, high - 1) or high // 2
            continue
        a, b = sorted(known, key=lambda n: abs(known[n] - available))[:2]
        slope = (known[b] - known[a]) / (b - a)
        guess = low + low // 50 if slope <= 0 else a + math.floor((available - known[a]) / slope)
        guess = low if guess <= low + low // 50 else guess if high is None else min(guess, high - 1)
    return low
