"""mig_jax: reinforcement learning with step-wise credit for language models, in JAX and Flax.

    import mig_jax

    run = mig_jax.train("quickstart", "/tmp/mig_quickstart")  # a run: metrics, curves, the trained model
    mig_jax.evaluate(run.model, "/tmp/mig_eval")              # tables
    mig_jax.score(run.model, run.transcripts)                 # the gain of every step, shown by notebooks

Rooms, from the ground floor up; imports only go down:

    distributed                     processes, meshes, shardings
    rewards, models, text, data     libraries that do not import each other
    learning                        advantages, losses, the train step
    policy, records                 a model with its tokenizer on a mesh; what a run writes
    rollout                         problems to completions, grades, scores and a batch
    evaluation                      accuracy on held-out problems; scores of given transcripts
    trainer                         one run, from config to trained model
    aot                             compile a run for another machine
    integrations                    step credit in TRL, tunix and other engines
    api                             the functions below, which the commands call, too

Main names: `train`, `evaluate`, `sample`, `score`, `values`, `load_policy`, `load_config`, `Run`; `rewards`; `configs`.
Each is imported when it is first used: `import mig_jax` is quick, and `mig_jax.rewards` needs jax and chex alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "configs", "evaluate", "load_config", "load_policy", "rewards", "sample", "score", "train", "values"]

if TYPE_CHECKING:
    # configs/ is outside of the package's folder, where type checkers do not find it (pyproject.toml).
    from mig_jax import (
        configs,  # pyright: ignore[reportAttributeAccessIssue]
        rewards,
    )
    from mig_jax.api import Run, evaluate, load_config, load_policy, sample, score, train, values
else:  # so that type checkers see the names above and no others

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name in ("configs", "rewards"):
            return importlib.import_module(f"mig_jax.{name}")
        if name in __all__:
            try:
                return getattr(importlib.import_module("mig_jax.api"), name)
            except ModuleNotFoundError as error:
                extras = importlib.import_module("mig_jax.extras")
                raise ImportError(f"mig_jax.{name}: {extras.how_to_install('train') or error}") from error
        raise AttributeError(f"module 'mig_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
