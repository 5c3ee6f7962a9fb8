"""All studies by name. A study of a user's own is `package.module:STUDY` or `my_study.py:STUDY`."""

from mig_jax.studies import credit_rules, sparse, value_proxy
from mig_jax.studies.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (sparse.STUDY, value_proxy.STUDY, credit_rules.STUDY)}


def overview() -> str:
    """Return the names of all studies with their questions, as lines."""
    return "\n".join(f"  {name:<14} {study.question}" for name, study in STUDIES.items())
