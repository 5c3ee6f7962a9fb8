"""Options of integrations: the keys of the config's section `reward`, with the defaults of the config."""

from typing import TYPE_CHECKING, Any, NamedTuple

from mig_jax.config_file import default_module
from mig_jax.errors import UserError

if TYPE_CHECKING:
    from mig_jax.config import RewardConfig

# Keys of the section that integrations use; the others concern outcome rewards, which a trainer has of its own.
KEYS = (
    "advantage", "credit", "credit_args", "credit_level", "max_steps", "max_variants", "over_spellings", "over_tokens",
    "process_eps", "process_mask", "process_scale", "step_discount", "terminator",
)  # fmt: skip


class Options(NamedTuple):
    """Values of the config.

    reward: its section.
    alpha: `loss.alpha`, the weight of the process stream.
    max_answer_tokens: `data.max_answer_tokens`.
    """

    reward: "RewardConfig"
    alpha: float
    max_answer_tokens: int


def reward_options(**changes: Any) -> Options:
    """Return the defaults of the config with some values of its section `reward` replaced.

    Args:
      **changes: values by key, one of `KEYS`; sections such as `credit_args` take a dict.

    Raises:
      UserError: lists unknown keys and values of the wrong type.
    """
    config: Any = default_module().get_config()
    errors = [f"no option {key!r}; choose from {', '.join(KEYS)}" for key in changes if key not in KEYS]
    for key in changes.keys() & {*KEYS}:
        try:
            config.reward.update({key: changes[key]})
        except (TypeError, ValueError, KeyError) as error:
            errors.append(f"{key}={changes[key]!r}: {error}")
    if errors:
        raise UserError("; ".join(errors))
    return Options(config.reward, config.loss.alpha, config.data.max_answer_tokens)
