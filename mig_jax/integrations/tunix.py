"""Step rewards in tunix: a GRPO learner with an advantage for each token, and a reward function.

    from mig_jax.integrations.tunix import MIGLearner, mig_reward
    learner = MIGLearner(cluster, GRPOConfig(...), reward_fns=[...], process=mig_reward(tokenizer, answers="answer"))

or with tunix's own learner, where the process reward of a response is one of its rewards:

    reward = mig_reward(tokenizer, answers="answer").attach(cluster)
    learner = GRPOLearner(cluster, GRPOConfig(...), reward_fns=[..., reward])
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.errors import UserError
from mig_jax.integrations.encoding import Encoded
from mig_jax.integrations.engines import padded_likelihoods
from mig_jax.integrations.jax_models import likelihoods
from mig_jax.integrations.process import Probed, Process, token_steps
from mig_jax.text.step_format import StepFormat

try:
    from flax import nnx
    from tunix.rl import rl_cluster as clusters
    from tunix.rl.grpo.grpo_learner import GRPOLearner
except ModuleNotFoundError as error:
    raise ImportError(f"mig_jax.integrations.tunix needs tunix ({error}): pip install 'mig_jax[tunix]'") from error

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class MIGReward:
    """The process reward as one of tunix's reward functions; see `mig_reward`."""

    __name__ = "mig_reward"

    def __init__(self, process: Process, *, scoring: str, batch_size: int):
        self.process = process
        self._scoring, self._batch_size = scoring, batch_size
        self._cluster: Any = None

    def attach(self, cluster: "clusters.RLCluster") -> "MIGReward":
        """Score with the actor of this cluster, whatever it has learned by then; return the reward itself."""
        self._cluster = cluster
        return self

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], num_generations: int, **columns: Any
    ) -> list[float]:
        """Return the process reward of each response, in the unit of the credit rule.

        tunix gives texts, which are encoded again: the ids may differ from those that were sampled. `MIGLearner` has
        the sampled ones.
        """
        ids = [_prompt_ids(self.process.tokenizer.fast, prompt) for prompt in prompts]
        probed = self.probe(self.process.encode(ids, list(completions), columns))
        return self.process.credit(probed, group_size=num_generations)[0].tolist()

    def probe(self, rows: Sequence[Encoded]) -> Probed:
        """Return the likelihoods of responses under the cluster's actor."""
        if self._cluster is None:
            raise UserError("the reward has no model to score with: call reward.attach(cluster) first")
        score = _SCORING[self._scoring]
        ells = score(self._cluster, rows, self._batch_size, self.process.likelihood_options)
        return self.process.collect(rows, ells)


def mig_reward(
    tokenizer: "PreTrainedTokenizerFast",
    answers: str = "answer",
    *,
    format: str | StepFormat = "mig",
    kind: str = "expression",
    scoring: str = "pairs",
    batch_size: int = 8,
    alpha: float | None = None,
    **options: Any,
) -> MIGReward:
    """Return the process reward, for `reward_fns` of a learner of tunix or for `MIGLearner`.

    Args:
      tokenizer: the one that the cluster's is made of, a fast tokenizer of transformers.
      answers: the column of the data that has the reference answers.
      format: of the responses: a key of `mig_jax.text.step_format.FORMATS`, such as "tunix", or your own.
      kind: how answers are compared, which decides the variants that are probed; or the column that has it.
      scoring: "pairs": each probe is a row of its own, by the cluster's log-probs of its actor; for any model. "tree":
        a response and all its probes are one row under a mask; for models whose attention follows a `[B, T, T]` mask.
      batch_size: rows in a pass; a multiple of the devices that share the rows.
      alpha: weight of the process advantage beside the learner's own, in `MIGLearner`; None: that of `loss.alpha`.
      **options: keys of the config's section `reward`, such as `credit`, `credit_level` or `terminator`.

    Raises:
      UserError: an option is unknown, or the tokenizer cannot be used.
    """
    if scoring not in _SCORING:
        raise UserError(f"scoring={scoring!r}: must be {' or '.join(_SCORING)}")
    process = Process(tokenizer, answers, format=format, kind=kind, alpha=alpha, **options)
    return MIGReward(process, scoring=scoring, batch_size=batch_size)


class MIGLearner(GRPOLearner):
    """tunix's GRPO learner with process advantages on the tokens of the reasoning, added to its own.

    Args:
      process: of `mig_reward`; it is attached.
      *args, **kwargs: of `GRPOLearner`. Its `reward_fns` are the outcome rewards.
    """

    def __init__(self, *args: Any, process: MIGReward, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.mig_process = process.attach(self.rl_cluster)

    def _generate_and_compute_advantage(
        self, training_input: dict[str, Any], mode: "clusters.Mode" = clusters.Mode.TRAIN
    ) -> Any:
        example = super()._generate_and_compute_advantage(training_input, mode)
        process, group_size = self.mig_process.process, self.algo_config.num_generations
        prompts, completions = _unpad(example, self.rl_cluster.rollout.pad_id(), process.tokenizer.eos_ids)
        rows = process.encode(prompts, completions, training_input)
        probed = self.mig_process.probe(rows)
        steps_bt = token_steps(rows, example.completion_ids.shape[1])
        process_bt = process.advantages(probed, steps_bt, group_size=group_size)
        metrics = process.metrics(probed, group_size=group_size)
        self.rl_cluster.buffer_metrics({name: (value, np.mean) for name, value in metrics.items()}, mode=mode)
        return example.replace(advantages=example.advantages[:, None] + jnp.asarray(process_bt, jnp.float32))


# ---------------------------------------------------------------------------------------------------------- likelihoods


def pair_likelihoods(
    cluster: "clusters.RLCluster", rows: Sequence[Encoded], batch_size: int, options: dict[str, str]
) -> list[np.ndarray]:
    """Return ℓ of each response from the log-probs that the cluster's actor gives the continuations of all probes.

    Args:
      cluster: at temperature 1, its actor scores; never the rollout's engine, which may ignore the given ids.
      rows: B responses.
      batch_size: probes in a pass.
      options: of `rewards.pairs_likelihood`.

    Returns:
      ell_k `[K+1]` of each response, in nats per token.
    """

    # The actor infers masks from ids, so padding must be an id that no text has.
    def logprobs(context, continuation, pad_id):
        return cluster.get_actor_per_token_logps(
            jnp.asarray(context),
            jnp.asarray(continuation),
            pad_id=pad_id,
            eos_id=cluster.rollout.eos_id(),
            micro_batch_size=batch_size,
            temperature=1.0,
        )

    return padded_likelihoods(logprobs, rows, pad_id=cluster.rollout.pad_id(), batch_size=batch_size, **options)


def tree_likelihoods(
    cluster: "clusters.RLCluster", rows: Sequence[Encoded], batch_size: int, options: dict[str, str]
) -> list[np.ndarray]:
    """Return ℓ of each response from one pass of the cluster's actor over the response and all its probes.

    Arguments and result as in `pair_likelihoods`.

    Raises:
      UserError: the model's attention ignores the mask.
    """
    model = cluster.actor_trainer.model
    if getattr(getattr(model, "config", None), "use_flash_attention", False):
        raise UserError("scoring='tree': flash attention ignores the mask; take scoring='pairs'")
    with cluster.cluster_config.role_to_mesh[clusters.Role.ACTOR]:
        return likelihoods(_apply, nnx.split(model), rows, batch_size=batch_size, **options)


def _apply(model: Any, token_bt: jax.Array, position_bt: jax.Array, mask_btt: jax.Array) -> jax.Array:
    """Return the logits of a model of tunix, which is given as `nnx.split` returns it."""
    return nnx.merge(*model)(token_bt, positions=position_bt, cache=None, attention_mask=mask_btt)[0]


_SCORING = {"pairs": pair_likelihoods, "tree": tree_likelihoods}

# --------------------------------------------------------------------------------------------------------------- parts


def _prompt_ids(fast: "PreTrainedTokenizerFast", prompt: str) -> list[int]:
    """Return the ids that tunix's sampler makes of a prompt: with one beginning-of-sequence, if there is such an id."""
    ids, start = [*fast(prompt)["input_ids"]], fast.bos_token_id
    return [start, *ids] if isinstance(start, int) and start and ids[:1] != [start] else ids


def _unpad(example: Any, pad_id: int, eos_ids: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of prompts and completions of an example of tunix."""
    prompts = [ids[np.argmax(ids != pad_id) :].tolist() for ids in np.asarray(example.prompt_ids)]
    completions = []
    for ids in np.asarray(example.completion_ids):
        length = len(ids) - int(np.argmax(ids[::-1] != pad_id)) if (ids != pad_id).any() else 0
        # Where the end-of-sequence is the padding, too, the first one was sampled.
        completions.append(ids[: length + (pad_id in eos_ids and length < len(ids))].tolist())
    return prompts, completions
