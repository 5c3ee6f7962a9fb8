"""All studies by name. A study of a user's own is `package.module:STUDY` or `my_study.py:STUDY`."""

from mig_jax.studies import (
    cold_start,
    credit_rules,
    scale,
    sft_ablation,
    sparse,
    step_density,
    strategies,
    value_proxy,
    weights,
)
from mig_jax.studies.study import Study

_MODULES = (
    sparse,
    value_proxy,
    credit_rules,
    sft_ablation,
    weights,
    cold_start,
    step_density,
    strategies,
    scale,
)
STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in _MODULES}


def overview() -> str:
    """Return the names of all studies with their questions, as lines."""
    return "\n".join(f"  {name:<14} {study.question}" for name, study in STUDIES.items())
