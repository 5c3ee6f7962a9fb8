"""The README.md beside a trained model: what it was trained from, on which data, how, and how accurate it is."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from ml_collections import ConfigDict

import mig_jax
from mig_jax.config import Config
from mig_jax.config_file import default_module, flatten
from mig_jax.parts import part_label
from mig_jax.policy.load import RUN_CONFIG, Policy
from mig_jax.policy.prompts import style_tokenizer
from mig_jax.records import metrics
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.eval_statistics import wilson_interval
from mig_jax.trainer.sft_stage import stage_config

# The accuracies of an evaluation, in the order of the table; each may have a lenient twin.
_ACCURACIES = re.compile(r"eval/(greedy|sampled|pass@\d+|maj@\d+)(_lenient)?")


def write_card(folder: str, policy: Policy, config: Config, *, mode: str, step: int, workdir: str) -> None:
    """Write README.md to the folder of a saved model.

    Args:
      folder: of the model.
      policy: the model's policy, see `render_card`.
      config, mode, step: of the run, see `render_card`.
      workdir: folder of the run, with its metrics.

    Raises:
      UserError: the metrics of the run cannot be read, or the card cannot be written.
    """
    has_metrics = (Path(workdir) / metrics.FILE_NAME).exists()
    rows = metrics.read_metrics(workdir)[1] if has_metrics else []
    name = os.path.basename(os.path.abspath(workdir))
    card = render_card(policy, config, mode=mode, step=step, rows=rows, name=name, command=command_line())
    with replace_file(Path(folder) / "README.md") as file:
        file.write(card)


def render_card(
    policy: Policy,
    config: Config,
    *,
    mode: str,
    step: int,
    rows: Sequence[Mapping[str, float]],
    name: str,
    command: str | None,
) -> str:
    """Return the text of a model card.

    Args:
      policy: that the run has started from; its parameters are not used.
      config: of the run.
      mode: "train" (RL) or "sft".
      step: number of steps that the model was trained for.
      rows: metrics of the run.
      name: of the run.
      command: the command that writes the model; None if it is not known.
    """
    parts = [
        _front_matter(policy, config, mode),
        f"# {name}, step {step}",
        f"A language model trained {_method_name(config, mode)} using mig_jax {mig_jax.__version__}.",
        _table([("", ""), ("---", "---"), *_facts(policy, config, mode, step)]),
        "## Prompt",
        _prompt(policy, config),
        "## Evaluation",
        _evaluation(config, step, rows),
        "## Settings",
        f"Those that differ from the defaults of mig_jax; all are in `{RUN_CONFIG}`.",
        "```text\n" + "\n".join(_changed_settings(config)) + "\n```",
        *([f"Written by\n\n```bash\n{command}\n```"] if command else []),
    ]
    return "\n\n".join(parts) + "\n"


def command_line() -> str | None:
    """Return the `mig-jax` command that this process runs, or None if it runs something else."""
    program = Path(sys.argv[0])
    is_module = program.parent.name == "mig_jax" and program.name in ("main.py", "__main__.py")
    return shlex.join(["mig-jax", *sys.argv[1:]]) if program.stem == "mig-jax" or is_module else None


def _front_matter(policy: Policy, config: Config, mode: str) -> str:
    """Return the fields that the Hugging Face hub reads. A license is named only if the base model names one."""
    is_adapter = policy.config.lora is not None and config.model.lora.save == "adapter"
    lines = [f"library_name: {'peft' if is_adapter else 'transformers'}"]
    base = _base_name(policy, config, mode)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not os.path.exists(base):
        lines.append(f"base_model: {base}")
    lines += [f"{field}: {value}" for field, value in policy.origin.license.items()]
    lines += ["tags:", "- mig_jax", f"- {'sft' if mode == 'sft' else 'reinforcement-learning'}"]
    return "\n".join(["---", *lines, "---"])


def _prompt(policy: Policy, config: Config) -> str:
    """Return an example of the prompts that the model was trained on, and how a server makes them."""
    tokenizer, _ = style_tokenizer(policy.tokenizer, config)
    text = tokenizer.chat_text(tokenizer.style.messages("What is 6 times 7?"))
    args = config.data.template_args
    by = "the chat template" + (f" with the arguments `{args}`" if args else "")
    return f"Prompts in training were made by {by}, as this one:\n\n````text\n{text}\n````"


def _base_name(policy: Policy, config: Config, mode: str) -> str:
    """Return the path or hub name of the model that the run, or the SFT stage before it, has started from."""
    if mode == "sft" or not config.sft.steps:
        return policy.base
    path = config.model.path
    return os.path.abspath(path) if os.path.exists(path) else path


def _method_name(config: Config, mode: str) -> str:
    if mode == "sft":
        return "by supervised fine-tuning (SFT) on written solutions"
    return "by reinforcement learning " + ("with step-wise credit (MIG)" if config.loss.alpha else "(GRPO)")


def _facts(policy: Policy, config: Config, mode: str, step: int) -> Iterator[tuple[str, str]]:
    """Yield what the run has done, as rows of a table."""
    s, o, r = config.loss, config.optimizer, config.rollout
    base = _base_name(policy, config, mode)
    yield "base model", f"`{base}`" if base else "none: random parameters"
    if policy.origin.license:
        yield "license of the base model", ", ".join(policy.origin.license.values())
    if mode == "train" and config.sft.steps:
        stage = stage_config(config)
        yield "SFT before RL", f"{stage.steps} steps on `{stage.data.train}`; the result is `{policy.base}`"
    yield "training data", f"`{config.data.train}`"
    yield "steps", f"{step} of {config.steps}"
    if mode == "sft":
        yield "each step", f"{config.sft.batch_size} written solutions"
    else:
        w = config.reward
        credit = f", credit {part_label(w.credit)} by {part_label(w.credit_level)}" if s.alpha else ""
        outcomes = " + ".join(f"{weight:g} {part_label(name)}" for name, weight in w.outcomes.items())
        yield (
            "method",
            f"{'MIG' if s.alpha else 'GRPO'}: α = {s.alpha:g} (process reward{credit}), β = {s.beta:g} "
            f"(outcome reward: {outcomes}), γ = {s.gamma:g} (SFT on correct responses), "
            f"κ = {s.kl_coef:g} (KL to the start)",
        )
        yield (
            "policy loss",
            f"{part_label(s.policy_loss)}, ratio per {part_label(s.ratio)}, aggregate {part_label(s.aggregate)}, "
            f"clipped at 1 − {s.clip_low:g} and 1 + {s.clip_high:g}; advantage {part_label(w.advantage)}",
        )
        yield (
            "each step",
            f"{r.questions} questions × {r.group_size} responses of at most {r.max_new_tokens} tokens, "
            f"temperature {r.temperature:g}",
        )
    yield (
        "optimizer",
        f"AdamW, peak learning rate {o.peak_lr:g}, decay {o.decay}, {o.warmup_steps} warm-up steps, "
        f"weight decay {o.weight_decay:g}, gradient clipped at {o.clip_norm:g}",
    )
    if lora := policy.config.lora:
        kept = "in PEFT's format" if config.model.lora.save == "adapter" else "merged"
        yield "adapters", f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}, on {', '.join(lora.modules)}; {kept}"
    yield "seed", str(config.seed)


def _evaluation(config: Config, step: int, rows: Sequence[Mapping[str, float]]) -> str:
    """Return the table of the first evaluation and the last one up to `step`, with intervals where n is known."""
    row_of = {int(row["step"]): row for row in rows if "eval/sampled" in row and row["step"] <= step}
    if not row_of:
        return "The model was not evaluated during the run."
    last = max(row_of)
    shown = list(dict.fromkeys([min(row_of), last]))
    names = [name for name in row_of[last] if _ACCURACIES.fullmatch(name)]
    names.sort(key=lambda name: name.endswith("_lenient"))
    table = [("accuracy", *(f"after step {n}" for n in shown)), *[("---",) * (1 + len(shown))]]
    for name in names:
        label = name.removeprefix("eval/").replace("_lenient", ", lenient")
        table.append((label, *(_share(row_of[n], name) for n in shown)))
    n = row_of[last].get("eval/problems")
    problems = f"{n:.0f} held-out problems" if n else "Held-out problems"
    source = config.data.eval or config.data.train
    text = (
        f"{problems} of `{source}`; sampled at temperature {config.rollout.temperature:g}, {config.eval.samples} "
        "per problem. Lenient: the answer may be anywhere in the response."
        + (" In brackets: 95 % intervals (Wilson)." if n else "")
    )
    if last != step:
        text += f" The model after step {step} itself was not evaluated."
    return f"{text}\n\n{_table(table)}"


def _share(row: Mapping[str, float], name: str) -> str:
    """Return an accuracy, with its interval if the number of problems is known."""
    mean, n = row.get(name), row.get("eval/problems")
    if mean is None or mean != mean:
        return "unknown"
    if not n:
        return f"{mean:.3f}"
    low, high = wilson_interval(mean, int(n))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _changed_settings(config: Config) -> list[str]:
    """Return the values of a config that differ from the defaults, as they are given on the command line."""
    default, values = flatten(default_module().get_config()), flatten(cast(ConfigDict, config))
    return [f"--config.{key}={value}" for key, value in values.items() if default.get(key) != value]


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
