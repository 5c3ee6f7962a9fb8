"""Where the numbers of a study come from: commands, commit, versions, hardware, seconds."""

import functools
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mig_jax import __version__
from mig_jax.studies.study import Plan, Run, Study


def record(study: Study, plan: Plan, run: Run, overrides: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Return what is recorded of a finished run, ready for JSON; `seconds` are those of its last start."""
    return {
        "run": run.name,
        "seed": run.seed,
        "does": f"{run.action.__module__}.{run.action.__name__}",
        "changes": dict(run.changes),
        "options": dict(run.options),
        "command": study_command(study, plan, overrides),
        "commit": commit(),
        "hardware": hardware(),
        "seconds": round(seconds, 1),
    }


def study_command(study: Study, plan: Plan, overrides: Mapping[str, Any]) -> str:
    """Return the command line of a study, without its workdir."""
    words = ["mig-jax", "study", study.name, "--workdir=DIR", f"--seeds={plan.seeds}"]
    words += [f"--config={plan.config}"] * bool(plan.config) + [f"--model={plan.model}"] * bool(plan.model)
    words += ["--smoke"] * plan.smoke + [f"--config.{key}={value}" for key, value in overrides.items()]
    return shlex.join(words)


@functools.cache
def commit() -> str:
    """Return the commit of this code, "+" after it if files have changed since; the version if it has no commit."""
    folder = Path(__file__).parent
    try:
        git = ["git", "-C", str(folder)]
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*git, "status", "--porcelain", "-uno", str(folder.parent)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
    return name.stdout.strip() + "+" * bool(status.stdout.strip())


@functools.cache
def hardware() -> str:
    """Return devices, cores, memory and versions in a line."""
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = f"{len(devices)} × {devices[0].device_kind}"
    return (
        f"{kind}, {cores} of {os.cpu_count()} {platform.machine()} cores, {memory:.0f} GiB, "
        f"jax {jax.__version__}, Python {platform.python_version()}"
    )
