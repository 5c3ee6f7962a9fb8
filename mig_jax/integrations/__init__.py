"""Step rewards of this project in other trainers and with other engines.

Lives here: the way from texts to probes (`encode`), and one module for each framework, which is imported only with it.
May import: every room below. `encoding`, `process`, `transformers` and `trl` import no jax.
Main names: `encode`, `trl.mig_reward`, `tunix.mig_reward`.
"""

from mig_jax.integrations.encoding import Encoded, encode, stack

__all__ = ["Encoded", "encode", "stack"]
