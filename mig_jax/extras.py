"""The packages of an extra of the distribution, such as `mig_jax[train]`."""

import importlib.metadata
import re


def how_to_install(extra: str) -> str | None:
    """Return which packages of an extra are missing, and what to run; None if all are there.

    Args:
      extra: as in `pip install 'mig_jax[EXTRA]'`.
    """
    missing = missing_packages(extra)
    names = ", ".join(missing if len(missing) < 4 else [*missing[:2], f"{len(missing) - 2} others"])
    return f"not installed: {names}. Run: pip install 'mig_jax[{extra}]'" if missing else None


def missing_packages(extra: str) -> list[str]:
    """Return the names of the packages of an extra that are not installed. Versions are not compared.

    None are known, and none returned, where mig_jax is imported from its folder without being installed.
    """
    try:
        requirements = importlib.metadata.requires("mig_jax") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = [re.split(r"[^\w.-]", text)[0] for text in requirements if re.search(rf"extra == ['\"]{extra}['\"]", text)]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
