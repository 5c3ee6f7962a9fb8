"""TRL: its GRPO trainer on the CPU, with the sampler of transformers."""

import os
from typing import Any

from protocol import Channel, Task, draw_tokens, reward


def run(task: Task, channel: Channel) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    class Turns(TrainerCallback):
        """Wait for a line before each step; answer after it."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = not channel.wait()
            return control

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            channel.lap("update")
            channel.answer()

    args = dict(
        output_dir=os.path.join(task.folder, "trl"), use_cpu=True, bf16=False, report_to=[], save_strategy="no",
        disable_tqdm=True, logging_strategy="no", max_steps=10**6, beta=0.0, temperature=1.0,
        per_device_train_batch_size=task.rows, num_generations=task.group_size, max_completion_length=task.response,
    ) | task.options  # fmt: skip
    trainer = GRPOTrainer(
        task.folder,
        reward,
        args=GRPOConfig(**args),
        train_dataset=Dataset.from_dict({"prompt": task.prompts}),
        processing_class=AutoTokenizer.from_pretrained(task.folder),
        callbacks=[Turns()],
    )
    if task.kind == "step":
        generate = trainer._generate_and_score_completions
        trainer._generate_and_score_completions = channel.then_lap("rollout", generate)
        channel.send({"ready": True})
        trainer.train()
        return

    token_bs = torch.from_numpy(draw_tokens(task)).long()
    ones = torch.ones_like(token_bs)
    if task.kind == "update":
        fixed = {
            "prompt_ids": token_bs[:, : task.prompt],
            "prompt_mask": ones[:, : task.prompt],
            "completion_ids": token_bs[:, task.prompt :],
            "completion_mask": ones[:, task.prompt :],
            "advantages": torch.tensor([1.0, -1.0]).repeat(task.rows)[: task.rows],
            "num_items_in_batch": torch.tensor(task.rows * task.response),
        }
        trainer._prepare_inputs = lambda _: fixed
        channel.send({"ready": True})
        trainer.train()
        return

    @torch.no_grad()
    def logprobs() -> None:
        trainer._get_per_token_logps_and_entropies(trainer.model, token_bs, ones, task.response)
        channel.lap("logprobs")

    channel.serve(logprobs)
