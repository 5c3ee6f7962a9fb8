"""Step rewards in TRL's GRPO: a reward function, and a trainer with an advantage for each token. Needs no jax.

    from mig_jax.integrations.trl import MIGTrainer, mig_reward
    trainer = MIGTrainer(model=model, process=mig_reward(tokenizer, answers="answer"), reward_funcs=[...], ...)

or with TRL's own trainer, where the process reward of a response is one of its rewards:

    reward = mig_reward(tokenizer, answers="answer")
    trainer = GRPOTrainer(model=model, reward_funcs=[..., reward], ...)
    reward.attach(trainer)
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax.errors import UserError
from mig_jax.integrations.encoding import Encoded
from mig_jax.integrations.process import Probed, Process, token_steps
from mig_jax.integrations.transformers import likelihoods
from mig_jax.text.step_format import StepFormat

try:
    import torch
    from accelerate.utils import gather
    from trl import GRPOTrainer
except ModuleNotFoundError as error:
    raise ImportError(f"mig_jax.integrations.trl needs TRL ({error}): pip install 'mig_jax[trl]'") from error

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class MIGReward:
    """The process reward as one of TRL's reward functions; see `mig_reward`."""

    __name__ = "mig_reward"

    def __init__(self, process: Process, *, scoring: str, batch_size: int | None):
        self.process = process
        self._scoring, self._batch_size = scoring, batch_size
        self._trainer: Any = None

    def attach(self, trainer: GRPOTrainer) -> "MIGReward":
        """Score with the model of this trainer, whatever it has learned by then; return the reward itself."""
        self._trainer = trainer
        return self

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Any], **columns: Any
    ) -> list[float]:
        """Return the process reward of each response, in the unit of the credit rule."""
        ids = [_prompt_ids(self._attached(), prompt) for prompt in prompts]
        rows = self.process.encode(ids, [list(row) for row in completion_ids], columns)
        probed, group_size = self.probe(rows), self._group_size()
        if len(rows) % group_size:  # a group is divided among processes
            probed, here = self._gather(probed)
        else:
            here = slice(None)
        for name, value in self.process.metrics(probed, group_size=group_size).items():
            columns["log_metric"](name, value)
        return self.process.credit(probed, group_size=group_size)[0][here].tolist()

    def probe(self, rows: Sequence[Encoded]) -> Probed:
        """Return the likelihoods of responses under the trainer's model as it is now."""
        trainer = self._attached()
        with trainer.accelerator.autocast():
            ells = likelihoods(
                trainer.model,
                rows,
                scoring=self._scoring,
                batch_size=self._batch_size or trainer.args.per_device_train_batch_size,
                vocab_size=self.process.tokenizer.vocab_size,
                **self.process.likelihood_options,
            )
        return self.process.collect(rows, ells)

    def token_advantages(self, batch: dict[str, Any], columns: dict[str, list[Any]]) -> tuple["torch.Tensor", Probed]:
        """Return α times the process advantage of each token of a batch of the trainer, `[B, T]`, and the likelihoods.

        Args:
          batch: with `prompt_ids`, `completion_ids` and their masks, as the trainer computes its loss from.
          columns: of the data, an entry for each response.
        """
        prompts = _unpad(batch["prompt_ids"], batch["prompt_mask"])
        completions = _unpad(batch["completion_ids"], batch["completion_mask"])
        rows = self.process.encode(prompts, completions, columns)
        everyone, here = self._gather(self.probe(rows))
        steps_bt = token_steps(rows, batch["completion_ids"].shape[1])
        advantage_bt = self.process.advantages(everyone, steps_bt, group_size=self._group_size(), rows=here)
        return torch.from_numpy(advantage_bt.astype(np.float32)).to(batch["completion_ids"].device), everyone

    def _gather(self, probed: Probed) -> tuple[Probed, slice]:
        """Return the responses of all processes, and which of them are of this one."""
        accelerator = self._attached().accelerator
        n, device = len(probed.ell_bk), accelerator.device
        everyone = Probed(*(gather(torch.from_numpy(part).to(device)).cpu().numpy() for part in probed))
        return everyone, slice(accelerator.process_index * n, (accelerator.process_index + 1) * n)

    def _group_size(self) -> int:
        trainer = self._attached()
        return trainer.num_generations if trainer.model.training else trainer.num_generations_eval

    def _attached(self) -> Any:
        if self._trainer is None:
            raise UserError("the reward has no model to score with: call reward.attach(trainer) before trainer.train()")
        return self._trainer


def mig_reward(
    tokenizer: "PreTrainedTokenizerFast",
    answers: str = "answer",
    *,
    format: str | StepFormat = "mig",
    kind: str = "expression",
    scoring: str = "auto",
    batch_size: int | None = None,
    alpha: float | None = None,
    **options: Any,
) -> MIGReward:
    """Return the process reward, for `reward_funcs` of TRL's GRPO trainer or for `MIGTrainer`.

    Args:
      tokenizer: the trainer's `processing_class`.
      answers: the column of the data that has the reference answers.
      format: of the responses: a key of `mig_jax.text.step_format.FORMATS`, or your own.
      kind: how answers are compared, which decides the variants that are probed; or the column that has it.
      scoring, batch_size: see `transformers.likelihoods`; the default is `per_device_train_batch_size`.
      alpha: weight of the process advantage beside the trainer's own, in `MIGTrainer`; None: that of `loss.alpha`.
      **options: keys of the config's section `reward`, such as `credit`, `credit_level` or `terminator`.

    Raises:
      UserError: an option is unknown, or the tokenizer cannot be used.
    """
    process = Process(tokenizer, answers, format=format, kind=kind, alpha=alpha, **options)
    return MIGReward(process, scoring=scoring, batch_size=batch_size)


class MIGTrainer(GRPOTrainer):
    """TRL's GRPO trainer with process advantages on the tokens of the reasoning, added to its own.

    Args:
      process: of `mig_reward`; it is attached.
      *args, **kwargs: of `GRPOTrainer`. Its `reward_funcs` are the outcome rewards.
    """

    def __init__(self, *args: Any, process: MIGReward, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.mig_process = process.attach(self)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        columns = {key: [row[key] for row in inputs] for key in inputs[0]}
        process_bt, probed = self.mig_process.token_advantages(output, columns)
        outcome_b = output["advantages"]
        output["advantages"] = outcome_b[:, None] + process_bt
        mode = "train" if self.model.training else "eval"
        group_size = self.num_generations if mode == "train" else self.num_generations_eval
        for name, value in self.mig_process.process.metrics(probed, group_size=group_size).items():
            self._metrics[mode][name].append(value)
        return output


def _prompt_ids(trainer: Any, prompt: Any) -> list[int]:
    """Return the ids that the trainer gives its model for a prompt."""
    return trainer._tokenize_prompts([prompt])[0][0]


def _unpad(ids: "torch.Tensor", mask: "torch.Tensor") -> list[list[int]]:
    return [row[is_token.bool()].tolist() for row, is_token in zip(ids, mask, strict=True)]
