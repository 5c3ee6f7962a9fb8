"""Is the likelihood ℓ of the reference answer a value? Appendix B of the paper.

States are the responses of a policy after each of their steps. The value of a state is the share of right answers among
continuations from it; ℓ is read by probes, under every variant of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure

from mig_jax.config_file import flatten
from mig_jax.config_sources import load_config
from mig_jax.records import plot_style
from mig_jax.records.transcripts import Transcript
from mig_jax.studies import actions, statistics
from mig_jax.studies.actions import VALUES
from mig_jax.studies.statistics import Interval, clustered
from mig_jax.studies.study import Analysis, Comparison, Plan, Results, Run, Study, Table

CONTINUATIONS = 32
# Of which states are sampled. A response to a chain of seven terms has seven states.
PROBLEMS = 80
TARGET = 0.6  # Spearman's ρ that the paper reports

_TAUGHT = {"steps": 80, "optimizer.peak_lr": 1e-3, "optimizer.warmup_steps": 10}
_SLIPS = "slip_prob=0.2,early_guess_prob=0.2"


def _scratch(layers: int, width: int, mlp_width: int, *, steps: int) -> dict[str, Any]:
    """Return the changes that train a policy of another size from random parameters."""
    shape = {"layers": layers, "width": width, "mlp_width": mlp_width, "heads": 4, "kv_heads": 2, "head_size": 16}
    shape = {f"model.init.{key}": value for key, value in shape.items()}
    learning = {"steps": steps, "optimizer.peak_lr": 2e-3, "optimizer.warmup_steps": 100, "optimizer.decay": "cosine"}
    start = {"model.path": "", "model.tokenizer": "characters", "data.train": f"chain:terms=7,{_SLIPS}"}
    return {**start, **learning, **shape}


class Policy(NamedTuple):
    """A policy and the domain of its states.

    held_out: source of the problems.
    taught: changes of the SFT that trains it; None for the quickstart's policy as it is.
    config: of which it has the shape, the prompts and the lengths; "" for that of the study.
    """

    held_out: str
    taught: Mapping[str, Any] | None
    config: str = ""

    def settings(self) -> dict[str, Any]:
        """Return the changes of all its runs."""
        if not self.config:
            return {}
        config, base = (flatten(cast(Any, load_config(name))) for name in (self.config, "quickstart"))
        kept = ("model.", "data.", "reward.", "rollout.max_new_tokens")
        return {key: value for key, value in config.items() if key.startswith(kept) and value != base[key]}


# Domain and policy → how both are made; those that are made first come first.
POLICIES: dict[str, Policy] = {
    "chains, 165K": Policy("chain:terms=7", None),
    "last digit, 165K": Policy(
        "chain:terms=7,asked=last",
        {
            "data.train": "chain:terms=7,asked=last,slip_prob=0.2,early_guess_prob=0.1",
            "steps": 300,
            "sft.batch_size": 32,
            "optimizer.peak_lr": 2e-3,
            "optimizer.warmup_steps": 20,
            "optimizer.decay": "cosine",
        },
    ),
    "scenes, 0.8M with a vision tower": Policy(
        "scenes:objects=3-5",
        {
            "data.train": "scenes:objects=3-5,slip_prob=0.2,early_guess_prob=0.1",
            "data.train_size": 40_000,
            "steps": 400,
            "sft.batch_size": 64,
            "optimizer.peak_lr": 2e-3,
            "optimizer.warmup_steps": 100,
            "optimizer.decay": "cosine",
        },
        "scenes",
    ),
    "chains, 165K with more slips": Policy(
        "chain:terms=7", {**_TAUGHT, "data.train": "chain:terms=7,slip_prob=0.42,early_guess_prob=0.2"}
    ),
    "chains, 90K": Policy("chain:terms=7", _scratch(2, 56, 168, steps=1500)),
    "chains, 500K": Policy("chain:terms=7", _scratch(4, 96, 288, steps=600)),
}
# Probe variant → changes; the first one is that of the samples, with which the others are compared.
PROBES: dict[str, Mapping[str, Any]] = {
    "tag": {"reward.terminator": "tag"},
    "mean_prob": {"reward.over_tokens": "mean_prob"},
    "sum": {"reward.over_tokens": "sum_logprob"},
    "event": {"reward.terminator": "event"},
    "event, sum": {"reward.terminator": "event", "reward.over_tokens": "sum_logprob"},
    "spellings, max": {"reward.max_variants": 4},
    "spellings, logsumexp": {"reward.max_variants": 4, "reward.over_spellings": "logsumexp"},
}
BASE = next(iter(PROBES))


def plan_runs(plan: Plan) -> list[Run]:
    """Return, for each policy, its SFT, and for each seed samples, their values, and their scores by probe variant."""
    runs = []
    policies = {"given": Policy("", None)} if plan.model or plan.config else POLICIES
    policies = dict(list(policies.items())[: 2 if plan.smoke else None])
    for setting, policy in policies.items():
        model = f"{_folder(setting)}/policy" if policy.taught is not None else ""
        settings, data = {} if plan.smoke else policy.settings(), {}
        if policy.held_out and not plan.smoke:
            data = {**settings, "data.train": policy.held_out, "data.eval": policy.held_out}
        if policy.taught is not None:
            taught = {} if plan.smoke else {**settings, **policy.taught}
            runs.append(Run(model, actions.sft, taught, arm="policy", setting=setting))
        for seed in range(plan.seeds):
            runs += _of_seed(setting, seed, model, data, smoke=plan.smoke)
    return runs


def _of_seed(setting: str, seed: int, model: str, data: Mapping[str, Any], *, smoke: bool) -> list[Run]:
    """Return the runs of a policy for one set of samples."""
    folder, end = _folder(setting), f"_{seed}" if seed else ""
    samples = f"{folder}/samples{end}"
    n_problems, n_continuations = (4, 2) if smoke else (PROBLEMS, CONTINUATIONS)
    common: Any = {"seed": seed, "setting": setting, "model": model}
    runs = [Run(samples, actions.sample, data, arm="samples", options={"limit": n_problems}, **common)]
    common |= {"after": (samples,)}
    options = {"of": samples, "samples": n_continuations}
    runs.append(Run(f"{folder}/values{end}", actions.values, data, arm="values", options=options, **common))
    for probe, changes in list(PROBES.items())[1:]:
        name = f"{folder}/{_folder(probe)}{end}"
        runs.append(Run(name, actions.score, {**data, **changes}, arm=probe, options={"of": samples}, **common))
    return runs


def _folder(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_")


# ------------------------------------------------------------------------------------------------------------ analysis


class States(NamedTuple):
    """States of a policy, `[N]` each.

    problem_n: index of the problem.
    position_n: steps that are done, as a share of the steps of the response.
    value_n: share of right continuations.
    ell_n: ℓ in nats, by probe variant.
    """

    problem_n: np.ndarray
    position_n: np.ndarray
    value_n: np.ndarray
    ell_n: dict[str, np.ndarray]


def read_states(results: Results, setting: str) -> States | None:
    """Return the states of a policy over all seeds; None if there are no values yet."""
    seeds = [run.seed for run in results.finished(arm="values", setting=setting)]
    if not seeds:
        return None
    values: list[list[float | None]] = []
    scored: dict[str, list[Transcript]] = {}
    for seed in seeds:
        (run,) = results.finished(arm="values", setting=setting, seed=seed)
        lines = (results.folder(run.name) / VALUES).read_text(encoding="utf-8").splitlines()
        values += [json.loads(line) for line in lines]
        for probe in PROBES:
            arm = "samples" if probe == BASE else probe
            for of_seed in results.finished(arm=arm, setting=setting, seed=seed):
                scored.setdefault(probe, []).extend(results.transcripts(of_seed))
    transcripts = scored[BASE]
    complete = {probe: of_probe for probe, of_probe in scored.items() if len(of_probe) == len(transcripts)}
    ids = {key: number for number, key in enumerate(dict.fromkeys(t.id or t.question for t in transcripts))}
    known = [
        (row, k, value) for row, of_one in enumerate(values) for k, value in enumerate(of_one) if value is not None
    ]
    return States(
        np.array([ids[transcripts[row].id or transcripts[row].question] for row, _, _ in known]),
        np.array([k / max(1, len(values[row]) - 1) for row, k, _ in known]),
        np.array([value for _, _, value in known]),
        {probe: np.array([of_probe[row].ell_k[k] for row, k, _ in known]) for probe, of_probe in complete.items()},
    )


def analyze(results: Results) -> Analysis:
    """Correlate ℓ with the value, by policy and probe variant."""
    settings = dict.fromkeys(run.setting for run in results.planned)
    found = {setting: states for setting in settings if (states := read_states(results, setting)) is not None}
    found = {setting: states for setting, states in found.items() if len(states.value_n) > 1}
    rows, probes, findings = [], [], []
    comparisons: list[Comparison] = []
    numbers: dict[str, Any] = {}
    for setting, states in found.items():
        measured = _measure(states)
        rho, position = measured["Spearman ρ"], measured["position, ρ"]
        n_problems = len(set(states.problem_n.tolist()))
        rows.append([setting, f"{len(states.value_n)} / {n_problems}", *(str(value) for value in measured.values())])
        findings.append(
            f"{setting}: ρ = {rho} over {len(states.value_n)} states, {_verdict(rho)} {TARGET}, the paper's; "
            f"position alone {position}, ℓ given position {measured['ρ given position']}."
        )
        numbers[setting] = {name: value._asdict() for name, value in measured.items()}
        for probe, ell_n in states.ell_n.items():
            of_probe = clustered(statistics.spearman, states.problem_n, ell_n, states.value_n)
            probes.append([f"{setting}: {probe}", str(of_probe)])
            if probe != BASE:
                comparisons.append(_compare_probes(setting, states, probe))
    tables = [Table("ℓ against the value", ("policy", "states / problems", *_MEASURES), rows)] if rows else []
    tables += [Table("By probe variant", ("policy: variant", "Spearman ρ"), probes)] if probes else []
    return Analysis(findings, tables, comparisons, _draw(found) if found else None, numbers)


# What is measured of ℓ (x), the value (y) and the position (z).
_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "Spearman ρ": lambda x, y, z: statistics.spearman(x, y),
    "Pearson r": lambda x, y, z: statistics.pearson(x, y),
    "Kendall τ": lambda x, y, z: statistics.kendall(x, y),
    "position, ρ": lambda x, y, z: statistics.spearman(z, y),
    "ρ given position": statistics.partial_spearman,
}


def _measure(states: States) -> dict[str, Interval]:
    columns = (states.ell_n[BASE], states.value_n, states.position_n)
    return {name: clustered(measure, states.problem_n, *columns) for name, measure in _MEASURES.items()}


def _verdict(rho: Interval) -> str:
    return "above" if rho.low > TARGET else "below" if rho.high < TARGET else "not significantly different from"


def _compare_probes(setting: str, states: States, probe: str) -> Comparison:
    """Return how much higher the rank correlation of a probe variant is than that of the first, by problem."""

    def difference(a: np.ndarray, b: np.ndarray, value: np.ndarray) -> float:
        return statistics.spearman(a, value) - statistics.spearman(b, value)

    columns = (states.ell_n[probe], states.ell_n[BASE], states.value_n)
    return Comparison(f"{setting}: ρ of {probe} − {BASE}", *clustered(difference, states.problem_n, *columns))


def _draw(found: Mapping[str, States]) -> Figure:
    """Draw, for each policy, the mean value of the states in each tenth of ℓ, and the value by position."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    by_ell, by_position = figure.subplots(1, 2, sharey=True)
    for color, (setting, states) in zip(plot_style.COLORS, found.items(), strict=False):
        for ax, x_n in ((by_ell, states.ell_n[BASE]), (by_position, states.position_n)):
            x, y = _by_quantile(x_n, states.value_n)
            ax.plot(x, y, color=color, marker="o", ms=3, lw=1.2, label=setting)
    by_ell.set(xlabel="ℓ of the reference answer, nats per token", ylabel="value: share of right continuations")
    by_position.set(xlabel="share of the steps that are done")
    for ax in (by_ell, by_position):
        ax.spines[["top", "right"]].set_visible(False)
    by_ell.legend(frameon=False, fontsize=8)
    return figure


def _by_quantile(x_n: np.ndarray, y_n: np.ndarray, bins: int = 10) -> tuple[Sequence[float], Sequence[float]]:
    """Return the means of x and y in bins of equally many states; states of equal x are in one bin."""
    edges = np.unique(np.quantile(x_n, np.linspace(0, 1, bins + 1)))
    bin_n = np.clip(np.searchsorted(edges, x_n, side="right") - 1, 0, max(0, len(edges) - 2))
    used = np.unique(bin_n)
    return [float(x_n[bin_n == b].mean()) for b in used], [float(y_n[bin_n == b].mean()) for b in used]


STUDY = Study(
    name="value_proxy",
    question="Is the likelihood of the answer after a step a value: does it tell how often the policy will be right?",
    hypotheses=(
        f"ℓ ranks states as their Monte-Carlo values do: Spearman's ρ is above {TARGET}, as in the paper.",
        "The position of a step alone reaches much less (0.25 in the paper); ℓ keeps its correlation given position.",
        "Where one guess in ten is right (last digit), ℓ is a worse proxy than where the answer shows every step.",
        "The variant of the probe matters little: no difference in ρ of more than 0.05.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    baseline=PROBES[BASE],
    settings={
        "eval.at_start": False,
        "eval.at_end": False,
        "log.writers": (),
        "log.every": 10,
        "checkpoint.every": 500,
    },
    limits=(
        "Tiny policies on chains of digits and on pictures; a pretrained model of yours: --config and --model.",
        "A value from 32 continuations has a standard error of up to 0.09, which lowers every correlation.",
        "One policy of each kind: the intervals are over problems, not over trained policies.",
    ),
)
