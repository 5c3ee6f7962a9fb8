"""Find out that a run learns nothing, and why, from its rows of metrics: what is seen, the likely cause, what to turn.

`SYMPTOMS` is the table. A symptom that is only a consequence of another one is not reported beside it.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mig_jax.config import Config
from mig_jax.records.metrics import column
from mig_jax.text.step_format import StepFormat, find_format

# Shares of responses that are worth a warning.
MANY_TRUNCATED = 0.5
MANY_TIMEOUTS = 0.01
MANY_FAILED = 0.05
# Steps after which a run is diagnosed for the first time.
FIRST_STEPS = 5
# An SFT loss, in nats per token, that has to fall no more; rows from which one can tell; the least relative fall.
LOW_SFT_LOSS, SFT_ROWS, SFT_FALL = 0.05, 8, 0.02
WIDTH = 100

Row = Mapping[str, float]


class Window:
    """Rows of a run, and the config that they were made with.

    Args:
      rows: of some steps in a row; training rows and evaluations.
      config: of the run.
      mode: "train" or "sft".
    """

    def __init__(self, rows: Sequence[Row], config: Config, mode: str):
        self.evals = [row for row in rows if "eval/format" in row]
        self.rows = [row for row in rows if "eval/format" not in row]
        self.config, self.mode = config, mode

    def least(self, name: str) -> float:
        """Return the smallest value of a metric; infinity if no row has it."""
        return min((row[name] for row in self.rows if name in row), default=float("inf"))

    def most(self, name: str) -> float:
        """Return the greatest value of a metric; infinity if no row has it."""
        return max((row[name] for row in self.rows if name in row), default=float("inf"))

    def mean(self, name: str) -> float:
        """Return the mean of a metric; 0 if no row has it."""
        values = column(self.rows, name)[1]
        return float(values.mean()) if values.size else 0.0

    @property
    def steps(self) -> str:
        """The steps of the training rows, as "steps 1 to 5"."""
        first, last = int(self.rows[0]["step"]), int(self.rows[-1]["step"])
        return f"steps {first} to {last}" if first < last else f"step {last}"

    @property
    def timeouts(self) -> float:
        """The share of answers whose check timed out."""
        r, log = self.config.rollout, self.config.log
        ends = [row["step"] for row in self.rows]
        starts = [max(0, ends[0] - log.every), *ends] if ends else [0]
        rollouts = sum(
            (end - start) * row.get("rollout/rollouts", 1.0)
            for start, end, row in zip(starts, ends, self.rows, strict=False)
        )
        timeouts = sum(row.get("verifier/timeouts", 0.0) for row in self.rows)
        return timeouts / max(rollouts * r.questions * r.group_size, 1)

    @property
    def failed(self) -> dict[str, float]:
        """The share of responses for which an outcome reward failed, by its name."""
        suffix = "_failed"
        names = {name for row in self.rows for name in row if name.startswith("reward/") and name.endswith(suffix)}
        r = self.config.rollout
        rollouts = sum(row.get("rollout/rollouts", 1.0) for row in self.rows)
        totals = {name: sum(row.get(name, 0.0) for row in self.rows) for name in sorted(names)}
        per_rollout = max(rollouts * r.questions * r.group_size, 1)
        return {name.removeprefix("reward/").removesuffix(suffix): n / per_rollout for name, n in totals.items()}

    @property
    def all_skipped(self) -> bool:
        """Whether every update was skipped, because loss or gradient was not finite."""
        o = self.config.optimizer
        updates = (self.rows[-1]["step"] - self.rows[0]["step"]) * o.updates_per_rollout * o.minibatches + 1
        return self.rows[-1].get("gradient/skipped_in_a_row", 0) >= updates


class Symptom(NamedTuple):
    """A sign that a run learns nothing, or not what it should.

    is_seen: whether a window shows it.
    message: what is seen, the likely cause, and what to turn.
    hides: names of the symptoms that are its consequences.
    modes: the kinds of runs that have it.
    """

    is_seen: Callable[[Window], bool]
    message: Callable[[Window], str]
    hides: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("train",)


class Finding(NamedTuple):
    """A symptom that was seen: its name in `SYMPTOMS`, and the message with the numbers of the run."""

    name: str
    message: str


def diagnose(rows: Sequence[Row], config: Config, *, mode: str) -> list[Finding]:
    """Return the symptoms that rows of metrics show.

    Args:
      rows: see `Window`. A symptom must be seen in all of them.
      config: of the run.
      mode: "train" or "sft".
    """
    window = Window(rows, config, mode)
    # Symptoms of training rows cannot be seen before the first one.
    table = SYMPTOMS if window.rows else {name: SYMPTOMS[name] for name in ("evaluation",)}
    seen = {name: s for name, s in table.items() if mode in s.modes and s.is_seen(window)}
    hidden = {name for symptom in seen.values() for name in symptom.hides}
    return [Finding(name, symptom.message(window)) for name, symptom in seen.items() if name not in hidden]


def recent(rows: Sequence[Row]) -> list[Row]:
    """Return the second half of a run's training rows with its evaluations of that time."""
    training = [row for row in rows if "eval/format" not in row]
    first = training[len(training) // 2]["step"] if training else 0
    return [row for row in rows if row["step"] >= first]


def render(findings: Sequence[Finding]) -> str:
    """Return findings as lines for the terminal."""
    return "\n".join(
        textwrap.fill(f"warning: {finding.message}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        for finding in findings
    )


# ------------------------------------------------------------------------------------------------------------ messages


def _skipped(w: Window) -> str:
    dtype = w.config.model.compute_dtype
    return (
        f"every update of {w.steps} was skipped, because loss or gradient was not finite: nothing is learned. "
        f"Start again in a new workdir with a lower optimizer.peak_lr (now {w.config.optimizer.peak_lr:g})"
        + (" or model.compute_dtype=float32" if dtype != "float32" else "")
    )


def _truncated(w: Window) -> str:
    return (
        f"{w.mean('rollout/truncated'):.0%} of the responses of {w.steps} were cut off at the limit of "
        f"{w.config.rollout.max_new_tokens} tokens, and cannot be right. Raise rollout.max_new_tokens; or, if the "
        "responses do not come to an end, train the format first (sft.steps)"
    )


def _malformed(w: Window) -> str:
    steps = " nor has a step" if w.most("rollout/steps") == 0 else ""
    return (
        f"no response of {w.steps} is well formed{steps} ({_format(w).describe()}). {_format_advice(w.config)} The "
        "files in transcripts/ say what is wrong (format_error)"
    )


def _no_steps(w: Window) -> str:
    return (
        f"no response of {w.steps} has a step ({_format(w).describe_steps()}): the process stream has nothing to "
        "credit. "
        f"{_format_advice(w.config)}"
    )


def _format(w: Window) -> StepFormat:
    return find_format(w.config.response_format)


def _no_signal(w: Window) -> str:
    if "accuracy" not in w.config.reward.outcomes:
        cause = "see the rewards of reward.outcomes in metrics.jsonl (reward/NAME and its deviation reward/NAME_std)"
    elif w.most("reward/accuracy") == 0:
        cause = (
            "no answer is right. Take easier problems, train on solutions first (sft.steps), or raise "
            f"rollout.group_size (now {w.config.rollout.group_size})"
        )
    elif w.least("reward/accuracy") == 1:
        cause = "all answers are right. Take harder problems"
    else:
        cause = (
            f"they hardly differ. Raise rollout.temperature (now {w.config.rollout.temperature:g}) or "
            f"rollout.group_size (now {w.config.rollout.group_size}), or set rollout.max_resamples"
        )
    rest = "only the process stream is learned from" if w.config.loss.alpha else "nothing is learned from them"
    return f"the samples of each question of {w.steps} all earned the same outcome reward, so {rest}: {cause}"


def _closed_gate(w: Window) -> str:
    return (
        f"no response of {w.steps} is both right and well formed: the gate of the SFT stream never opened, and "
        f"loss.gamma={w.config.loss.gamma:g} has no effect. Take easier problems, or train on solutions first "
        "(sft.steps)"
    )


def _timeouts(w: Window) -> str:
    v = w.config.verifier
    return (
        f"the check of {w.timeouts:.1%} of the answers of {w.steps} timed out. Raise verifier.deadline_s "
        f"(now {v.deadline_s:g} seconds), or verifier.workers (now {v.workers}) if the machine is busy"
    )


def _outcome_failed(w: Window) -> str:
    name, share = max(w.failed.items(), key=lambda item: item[1])
    return (
        f"the outcome reward {name} failed for {share:.1%} of the responses of {w.steps}, which have no part in their "
        "groups. The first error is in the log; late calls: raise reward.outcome_args.deadline_s "
        f"(now {w.config.reward.outcome_args.deadline_s:g} seconds) or that of its batch_reward"
    )


def _evaluation(w: Window) -> str:
    row = w.evals[-1]
    when = f"after step {int(row['step'])}" if row["step"] else "before the first step"
    advice = "Train longer, or raise optimizer.peak_lr" if w.mode == "sft" else _format_advice(w.config)
    return f"no held-out response {when} is well formed. {advice}"


def _no_gradient(w: Window) -> str:
    s = w.config.loss
    return (
        f"the gradient of {w.steps} is zero: no stream of the loss has anything to learn from "
        f"(loss.alpha={s.alpha:g}, loss.beta={s.beta:g}, loss.gamma={s.gamma:g})"
    )


def _flat_sft_loss(w: Window) -> str:
    loss = column(w.rows, "loss/sft")[1]
    return (
        f"the loss does not fall: {loss[0]:.3g} in the first row of {w.steps}, {loss[-1]:.3g} in the last. Raise "
        f"optimizer.peak_lr (now {w.config.optimizer.peak_lr:g})"
    )


def _format_advice(config: Config) -> str:
    prompt = "" if config.data.system_prompt else "Ask for the format (data.system_prompt=format), or train"
    more = f"more sft.steps, now {config.sft.steps}" if config.sft.steps else "sft.steps"
    return f"{prompt or 'The model does not know this format: train'} it first on solutions ({more})."


def _is_sft_loss_flat(w: Window) -> bool:
    loss = column(w.rows, "loss/sft")[1]
    part = max(1, len(loss) // 4)
    first, last = loss[:part].mean() if len(loss) else 0.0, loss[-part:].mean() if len(loss) else 0.0
    return bool(len(loss) >= SFT_ROWS and first > LOW_SFT_LOSS and last > (1 - SFT_FALL) * first)


def _has_no_signal(w: Window) -> bool:
    return bool(w.config.loss.beta) and w.least("reward/zero_variance_groups") == 1.0


def _share_is_zero(name: str, coefficient: str = "") -> Callable[[Window], bool]:
    """Return a test that a share is 0 in all rows, and that a coefficient of the loss is not."""

    def is_zero(w: Window) -> bool:
        loss: Any = w.config.loss
        return w.most(name) == 0 and (not coefficient or bool(loss[coefficient]))

    return is_zero


_BAD_RESPONSES = ("no_steps", "no_signal", "closed_gate", "no_gradient", "evaluation")
SYMPTOMS = {
    "skipped": Symptom(
        lambda w: w.all_skipped,
        _skipped,
        hides=("malformed", "no_gradient", "flat_sft_loss", *_BAD_RESPONSES),
        modes=("train", "sft"),
    ),
    "all_truncated": Symptom(
        lambda w: w.least("rollout/truncated") == 1.0, _truncated, hides=("malformed", *_BAD_RESPONSES)
    ),
    "truncated": Symptom(lambda w: MANY_TRUNCATED <= w.mean("rollout/truncated") < 1.0, _truncated),
    "malformed": Symptom(_share_is_zero("reward/format"), _malformed, hides=_BAD_RESPONSES),
    "no_steps": Symptom(_share_is_zero("rollout/steps", "alpha"), _no_steps),
    "no_signal": Symptom(_has_no_signal, _no_signal, hides=("closed_gate", "no_gradient")),
    "closed_gate": Symptom(_share_is_zero("sft/gate", "gamma"), _closed_gate),
    "timeouts": Symptom(lambda w: w.timeouts > MANY_TIMEOUTS, _timeouts),
    "outcome_failed": Symptom(lambda w: max(w.failed.values(), default=0.0) > MANY_FAILED, _outcome_failed),
    "no_gradient": Symptom(_share_is_zero("gradient/norm"), _no_gradient, modes=("train", "sft")),
    "flat_sft_loss": Symptom(_is_sft_loss_flat, _flat_sft_loss, modes=("sft",)),
    "evaluation": Symptom(
        lambda w: bool(w.evals) and w.evals[-1]["eval/format"] == 0 and not (w.mode == "sft" and not w.rows),
        _evaluation,
        modes=("train", "sft"),
    ),
}
