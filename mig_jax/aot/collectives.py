"""Collectives of a compiled program, read from its HLO text: which operations, how often, how many bytes."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=(\{[^}]*\}|%?[\w.-]+)")
_CONDITION = re.compile(r"condition=%?([\w.-]+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = [su]\d+\[\](?:\{[^}]*\})? constant\((\d+)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")

Computations = dict[str, list[str]]  # name → lines


class Collective(NamedTuple):
    """One kind of operation within one nest of loops.

    kind: one of `KINDS`.
    trip_counts: maximum number of iterations of each enclosing loop, the outermost first.
    """

    kind: str
    trip_counts: tuple[int, ...]


class Traffic(NamedTuple):
    """Amount of data that a program sends by one `Collective`.

    operations: number of operations in the program's text.
    nbytes: bytes of all their results on one device, over one run of the program.
    """

    operations: int
    nbytes: int


class _Operation(NamedTuple):
    """One line of HLO. channel: the same for all pieces that the compiler splits one collective into."""

    collective: Collective
    channel: Hashable
    result_nbytes: int


def read_collectives(hlo: str) -> dict[Collective, Traffic]:
    """Return the collectives of a program, the largest first.

    A loop that may end early (decoding) is counted as if it ran to its limit.

    Args:
      hlo: text of the optimized program, from `compiled.as_text()`. Its shapes are those of one device.
    """
    computations, entry = _split_computations(hlo)
    # To overlap an operation with others, the compiler may write it several times, in pieces of one channel. Some of
    # them may be inside a loop. The operation is sent as often as its outermost piece starts.
    outermost: dict[Hashable, _Operation] = {}
    for operation in _walk(entry, (), computations):
        known = outermost.setdefault(operation.channel, operation)
        if len(operation.collective.trip_counts) < len(known.collective.trip_counts):
            outermost[operation.channel] = operation
    operations, nbytes = Counter[Collective](), Counter[Collective]()
    for collective, _, result_nbytes in outermost.values():
        operations[collective] += 1
        nbytes[collective] += result_nbytes * math.prod(collective.trip_counts)
    largest_first = sorted(nbytes, key=lambda collective: nbytes[collective], reverse=True)
    return {collective: Traffic(operations[collective], nbytes[collective]) for collective in largest_first}


def _split_computations(hlo: str) -> tuple[Computations, str]:
    """Return the lines of each computation, and the name of the entry computation."""
    computations, entry, lines = {}, "", []
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations[found[1]] = []
            entry = found[1] if line.startswith("ENTRY") else entry
        else:
            lines.append(line)
    return computations, entry


def _walk(name: str, trip_counts: tuple[int, ...], computations: Computations) -> Iterator[_Operation]:
    """Yield every collective of a computation and of the computations it calls."""
    for line in computations[name]:
        found = _OPERATION.match(line)
        if not found:
            continue
        result, operation, rest = found.groups()
        kind = operation.removesuffix("-start")
        if kind in KINDS:
            channel = _CHANNEL.search(rest)
            nbytes = _result_nbytes(result, operation)
            yield _Operation(Collective(kind, trip_counts), channel[1] if channel else (name, line), nbytes)
        # The reducer of a collective is not a call. The body of an asynchronous call was counted at its start.
        if kind in KINDS or operation in ("async-update", "async-done"):
            continue
        inside = (*trip_counts, _trip_count(rest, computations)) if operation == "while" else trip_counts
        for called in _called(rest):
            yield from _walk(called, inside, computations)


def _called(rest: str) -> list[str]:
    return [name for names in _CALLED.findall(rest) for name in re.findall(r"[\w.-]+", names)]


def _trip_count(rest: str, computations: Computations) -> int:
    """Return a loop's trip count if the compiler states it, else the largest constant its condition compares with."""
    if known := _TRIP_COUNT.search(rest):
        return int(known[1])
    pending, bounds = _CONDITION.findall(rest)[:1], [1]
    while pending:
        for line in computations[pending.pop()]:
            bounds += [int(found[1]) for found in [_BOUND.match(line)] if found]
            pending += _called(line)
    return max(bounds)


def _result_nbytes(result: str, operation: str) -> int:
    """Return the bytes of a type such as "f32[4,8]" or of a tuple of types.

    The result of a "-start" operation lists its operands before its results; only results are counted.
    """
    sizes = [
        math.prod(map(int, filter(None, shape.split(",")))) * int(bits or 8) // 8
        for _, bits, shape in _ARRAY.findall(result)
    ]
    if operation == "all-gather-start":
        return sum(sizes[len(sizes) // 2 :])
    return max(sizes) if operation == "collective-permute-start" else sum(sizes)
