"""Random keys of a run, one for each purpose, so that no two purposes ever share random numbers."""

import jax

PURPOSES = ("sampling", "evaluation", "rounding")


def purpose_key(seed: int, purpose: str) -> jax.Array:
    """Return the key of a purpose, one of `PURPOSES`; fold in the step before use.

    The key of a step depends on the seed, the purpose and the step alone. So a resumed run samples and rounds as an
    uninterrupted one does.
    """
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
