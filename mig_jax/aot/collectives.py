"""What a compiled program sends between devices, read off its HLO text: which operations, how often, how many bytes."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=(\{[^}]*\}|%?[\w.-]+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = [su]\d+\[\](?:\{[^}]*\})? constant\((\d+)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")


class Sent(NamedTuple):
    """One kind of operation in one place.

    kind: one of `KINDS`.
    loops: how often the loops around it go round at most, the outermost first.
    """

    kind: str
    loops: tuple[int, ...]


class Amount(NamedTuple):
    """operations: how many there are in the program's text. nbytes: what all of them leave on a chip in a run."""

    operations: int
    nbytes: int


def read_collectives(hlo: str) -> dict[Sent, Amount]:
    """The collectives of a program, from the text of its optimised HLO, as `compiled.as_text()` gives it.

    Shapes in it are those of one device. A loop that may end early (decoding) is counted as if it did not.
    """
    computations, entry = _split(hlo)
    operations, nbytes, begun = Counter(), Counter(), {}
    for sent, channel, size in _walk(entry, (), computations):
        # An operation that is hidden behind others is written several times, in pieces of one channel, which may stand
        # in a loop: it is sent as often as it begins.
        if channel not in begun or len(sent.loops) < len(begun[channel][0].loops):
            begun[channel] = sent, size
    for sent, size in begun.values():
        operations[sent] += 1
        nbytes[sent] += size * math.prod(sent.loops)
    return {sent: Amount(operations[sent], nbytes[sent]) for sent in sorted(nbytes, key=nbytes.get, reverse=True)}


def _split(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the one that is run."""
    computations, entry, lines = {}, "", []
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations[found[1]] = []
            entry = found[1] if line.startswith("ENTRY") else entry
        else:
            lines.append(line)
    return computations, entry


def _walk(name: str, loops: tuple[int, ...], computations: dict[str, list[str]]) -> Iterator[tuple[Sent, Any, int]]:
    """Every collective of a computation and of those that it calls, with its channel and the bytes of its result."""
    for line in computations[name]:
        found = _OPERATION.match(line)
        if not found:
            continue
        result, operation, rest = found.groups()
        kind = operation.removesuffix("-start")
        if kind in KINDS:
            channel = _CHANNEL.search(rest)
            yield Sent(kind, loops), channel[1] if channel else (name, line), _result_bytes(result, operation)
        if kind in KINDS or operation in ("async-update", "async-done"):
            continue  # what a reduction applies is no call, and what has started was counted there
        inside = (*loops, _trips(rest, computations)) if operation == "while" else loops
        for called in _called(rest):
            yield from _walk(called, inside, computations)


def _called(rest: str) -> list[str]:
    return [name for names in _CALLED.findall(rest) for name in re.findall(r"[\w.-]+", names)]


def _trips(rest: str, computations: dict[str, list[str]]) -> int:
    """How often a loop goes round: as the compiler says, else the largest number that its condition compares with."""
    if known := _TRIPS.search(rest):
        return int(known[1])
    pending, bounds = [re.search(r"condition=%?([\w.-]+)", rest)[1]], [1]
    while pending:
        for line in computations[pending.pop()]:
            bounds += [int(found[1]) for found in [_BOUND.match(line)] if found]
            pending += _called(line)
    return max(bounds)


def _result_bytes(result: str, operation: str) -> int:
    """Bytes of a type such as "f32[4,8]" or a tuple. Where an operation starts, operands may stand before results."""
    sizes = [
        math.prod(map(int, filter(None, shape.split(",")))) * int(bits or 8) // 8
        for _, bits, shape in _ARRAY.findall(result)
    ]
    if operation == "all-gather-start":
        return sum(sizes[len(sizes) // 2 :])
    return max(sizes) if operation == "collective-permute-start" else sum(sizes)
