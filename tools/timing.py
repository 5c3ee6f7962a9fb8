"""Rows of the table of `on_gpu.py`, and the time of a call."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


class Rows:
    """Rows of the table, printed as they come."""

    def __init__(self):
        self.rows: list[tuple[str, str, str, bool | None]] = []
        self.began = time.perf_counter()

    def add(self, measure: str, value: str, limit: str = "", is_ok: bool | None = None) -> None:
        """Add a row; `is_ok` is None for a number that is only reported."""
        print(f"[{time.perf_counter() - self.began:5.0f} s] {measure}: {value} {limit}", flush=True)
        self.rows.append((measure, value, limit, is_ok))


def time_call(function: Callable, *arguments: Any, repeats: int = 10) -> float:
    """Return the median seconds of a call, after one that compiles."""
    seconds = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])
