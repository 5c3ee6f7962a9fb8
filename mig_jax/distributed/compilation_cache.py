"""Compiled programs kept on disk: a command that runs again need not compile again."""

import hashlib
import os
import platform
from pathlib import Path

import jax

# The least recently used programs are dropped beyond this size.
MAX_NBYTES = 4 * 2**30
# Seconds of compiling from which a program is kept: dozens of small ones take seconds together.
MIN_SECONDS = 0.0


def enable() -> None:
    """Keep compiled programs in ~/.cache/mig_jax, or where JAX_COMPILATION_CACHE_DIR says; "" there: nowhere.

    Machines may share a home folder, but not programs: each kind of CPU has a folder of its own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "mig_jax" / "compilation" / _cpu_kind()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home folder, or a read-only one
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_NBYTES)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def _cpu_kind() -> str:
    """Return a name that is the same for CPUs with the same instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
