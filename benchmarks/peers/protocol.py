"""The protocol of one side of `against_peers.py`: a task, and lines of JSON to and from the parent."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Laps = dict[str, float]


class Task(NamedTuple):
    """What a worker does for each line.

    kind: "step" (sample, reward, update), "logprobs" (of fixed completions, forward alone) or "update" (on them).
    folder: of the model.
    prompts: texts of equal length in tokens.
    prompt: that length.
    group_size: samples of each prompt.
    response: new tokens of each sample.
    options: further settings of this side: keys of our config, or arguments of TRL's `GRPOConfig`.
    checkout: folder of our side's source.
    """

    kind: str
    folder: str
    prompts: list[str]
    prompt: int
    group_size: int
    response: int
    options: dict[str, Any] = {}
    checkout: str = ""

    @property
    def rows(self) -> int:
        return len(self.prompts) * self.group_size


class Channel:
    """Lines of JSON to and from the parent. Takes stdout for itself: what others print goes to stderr."""

    def __init__(self):
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.laps: Laps = {}
        self.clock = _clock()

    def wait(self) -> bool:
        """Wait for a line; return whether there is one. Starts the clocks."""
        is_asked = bool(sys.stdin.readline())
        self.laps, self.clock = {"wall": 0.0, "cpu": 0.0}, _clock()
        return is_asked

    def lap(self, name: str) -> None:
        """Record wall-clock and CPU seconds since the last lap, as NAME and NAME_cpu."""
        last, self.clock = self.clock, _clock()
        wall, cpu = (now - then for now, then in zip(self.clock, last, strict=True))
        self.laps |= {name: wall, f"{name}_cpu": cpu}
        self.laps["wall"] += wall
        self.laps["cpu"] += cpu

    def then_lap(self, name: str, function: Callable[..., Any], wait: Callable[[Any], Any] = lambda x: x) -> Callable:
        """Return the function with a lap after each call."""

        def run(*args: Any, **kwargs: Any) -> Any:
            result = wait(function(*args, **kwargs))
            self.lap(name)
            return result

        return run

    def answer(self) -> None:
        """Send the laps since `wait`, their sums, and peak memory and CPU seconds of the process so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.send(self.laps | {"peak_mib": peak, "process_cpu": time.process_time()})

    def send(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self.out, flush=True)

    def serve(self, work: Callable[[], None]) -> None:
        """Do the work, which records its laps, once for each line."""
        self.send({"ready": True})
        while self.wait():
            work()
            self.answer()


def _clock() -> tuple[float, float]:
    """Return wall-clock seconds and CPU seconds of all threads."""
    return time.perf_counter(), time.process_time()


def draw_tokens(task: Task) -> Any:
    """Return `[B, prompt + response]` token ids, the same on every side: bytes, which every vocabulary has."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (task.rows, task.prompt + task.response)).astype(np.int32)


def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Return a reward that differs within groups and costs nothing: the parity of the text's length."""
    del prompts
    return [float(len(text) % 2) for text in completions]
