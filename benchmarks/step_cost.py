"""Cost of a MIG step relative to a GRPO step, beside the ratio of the tokens that each must compute.

    python benchmarks/step_cost.py
    python benchmarks/step_cost.py --quickstart

A step is what training does: sample, parse, grade, probe, and update. Both runs take turns in one process, after steps
that compile. MIG is the default loss; GRPO is the same with α = γ = 0, which probes nothing. Prints the median of each
part in seconds, and the median and range of the ratio over the rounds; also of the CPU time of the process, which
depends less on what else the machine does.

The model has random parameters and never writes steps or an end-of-sequence. So it samples `--response` tokens in
every row, and then `forced_sampler` replaces them by a response of that length with `--steps` steps: all parts of the
step have the shapes and the work of a real one, only the log-probs of the sampler belong to other tokens. With
`--quickstart`, everything is sampled by the quickstart's policy, which is first trained for `--warm_up` steps.
"""

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mig_jax.configs import default, quickstart

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic.generators import open_chains
from mig_jax.distributed import sharding
from mig_jax.models import decoder
from mig_jax.models.sampler import Completions
from mig_jax.policy.load import Policy, load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.rollout.rollout import Rollout
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.response_format import render_response
from mig_jax.text.tokenizer import Tokenizer
from mig_jax.trainer.update import build_update

PARTS = ("rollout", "score", "grade", "make_batch", "update", "step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default_value in {
        "prompt": 64, "response": 400, "steps": 16, "variants": 4, "answer": 8, "questions": 2, "group_size": 4,
        "layers": 6, "width": 256, "vocab": 8192, "rounds": 5, "warm_up": 2,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default_value)
    parser.add_argument("--quickstart", action="store_true", help="the quickstart's model, shapes and responses")
    args = parser.parse_args()

    config = quickstart.get_config() if args.quickstart else get_config(args)
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=jax.devices())
    with jax.set_mesh(mesh), Verifier(workers=config.verifier.workers) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        if args.quickstart:
            problems = list(open_chains("chain", "terms=7", split="train", seed=0, size=config.rollout.questions))
        else:
            policy, problems = widen_vocabulary(policy, args.vocab), draw_problems(args)
        runs = {name: Run(policy, change(config, name), verifier, problems, args) for name in ("grpo", "mig")}
        seconds = take_turns(runs, warm_up=args.warm_up, rounds=args.rounds)
    print(f"{jax.devices()[0].device_kind}, {args}")
    report(seconds)
    if not args.quickstart:
        report_tokens(policy.tokenizer, args)


def get_config(args: argparse.Namespace) -> Config:
    """Return the default config with the sizes of the command line."""
    c = default.get_config()
    c.model.tokenizer = "characters"
    c.model.init.layers, c.model.init.width, c.model.init.mlp_width = args.layers, args.width, 3 * args.width
    c.model.init.heads, c.model.init.kv_heads, c.model.init.head_size = args.width // 64, args.width // 128, 64
    c.data.system_prompt, c.data.max_prompt_tokens = "", args.prompt
    c.rollout.questions, c.rollout.group_size, c.rollout.max_new_tokens = args.questions, args.group_size, args.response
    c.reward.max_steps, c.reward.max_variants = args.steps, args.variants
    return c


def change(config: Config, name: str) -> Config:
    """Return the config of a run: "mig" as it is, "grpo" with the outcome stream alone."""
    config = copy.deepcopy(config)
    if name == "grpo":
        config.loss.alpha = config.loss.gamma = 0.0
    return config


def widen_vocabulary(policy: Policy, vocab_size: int) -> Policy:
    """Return a policy with random parameters whose vocabulary has `vocab_size` entries, which never ends a response.

    Coordinate 0 is larger for every token than what layers add to it, and negative in the rows of the end-of-sequence.
    """
    config = dataclasses.replace(policy.config, vocab_size=vocab_size)
    params = decoder.init_params(config, jax.random.key(0))
    embedding = params["embedding"].at[:, 0].set(8.0).at[np.array(policy.tokenizer.eos_ids), 0].set(-4.0)
    return dataclasses.replace(policy, config=config, params=params | {"embedding": embedding})


def draw_problems(args: argparse.Namespace) -> list[Problem]:
    """Draw problems with `--variants` answers of `--answer` characters, and questions that fill the prompt."""
    rng = np.random.default_rng(0)
    answers = [
        ["".join(map(str, rng.integers(1, 10, args.answer))) for _ in range(args.variants)]
        for _ in range(args.questions)
    ]
    # The chat template of the character tokenizer adds eight tokens.
    return [Problem(f"{n}", "?" * (args.prompt - 8), a[0], "text", variants=(*a[1:],)) for n, a in enumerate(answers)]


class AtOnce:
    """A sampler like `generate.Sampler` from a function that samples, which `start` calls and waits for."""

    def __init__(self, sample: Callable[..., Completions]):
        self.sample = sample

    def __call__(self, *arguments: Any) -> Completions:
        return self.sample(*arguments)

    def start(self, *arguments: Any) -> Callable[[], Completions]:
        completions = self.sample(*arguments)
        return lambda: completions


def forced_sampler(sample: Callable[..., Completions], tokenizer: Tokenizer, args: argparse.Namespace) -> AtOnce:
    """Return a sampler that samples, then puts responses of `--response` tokens in the place of what it sampled.

    Half of the answers are one of the reference answers, so that groups have signal.
    """
    # 32 tokens are left for the answer and what is around it.
    text = [f"{n}" + "=" * ((args.response - 32) // args.steps - 8) for n in range(args.steps)]
    missing = args.response - 1 - len(tokenizer.encode(render_response(text, "1" * args.answer)))
    if missing < 0:
        raise ValueError(f"{args.steps} steps do not fit into {args.response} tokens")
    text[-1] += "=" * missing
    ids = np.array([*tokenizer.encode(render_response(text, "1" * args.answer)), tokenizer.eos_ids[0]], np.int32)

    def sample_forced(*arguments: Any) -> Completions:
        sampled = sample(*arguments)
        token_bt = np.tile(ids, (sampled.token_bt.shape[0], 1))
        # Rows differ in their steps, so rewards differ within a group.
        digits = tokenizer.encode("123456789")
        token_bt[:, ids == tokenizer.token_id("=")] = np.resize(digits, (len(token_bt), 1))
        return sampled._replace(
            token_bt=jax.device_put(token_bt, sampled.token_bt.sharding),
            length_b=jnp.full_like(sampled.length_b, args.response),
            is_truncated_b=jnp.zeros_like(sampled.is_truncated_b),
        )

    return AtOnce(sample_forced)


class Run:
    """A training run without files: each call is a step, and returns the seconds of its parts."""

    def __init__(
        self, policy: Policy, config: Config, verifier: Verifier, problems: list[Problem], args: argparse.Namespace
    ):
        policy = dataclasses.replace(policy, params=jax.tree.map(jnp.copy, policy.params))  # the state takes them
        self.rollout = Rollout(policy, config, verifier)
        if not args.quickstart:
            sample = forced_sampler(self.rollout.compiled.sample, policy.tokenizer, args)
            self.rollout.compiled = self.rollout.compiled._replace(sample=sample)
        self.state, self.update = build_update(policy, config, "train")
        self.prompts = encode_prompts(policy, config, problems)

    def __call__(self, key: jax.Array) -> dict[str, float]:
        start, cpu = time.perf_counter(), time.process_time()
        result = self.rollout(self.state.params, self.prompts, key)
        jax.block_until_ready(result.batch)
        middle = time.perf_counter()
        self.state, metrics = self.update(self.state, result.batch)
        jax.block_until_ready((self.state, metrics))
        end, cpu = time.perf_counter(), time.process_time() - cpu
        laps = {name: result.metrics.get(f"time/{name}", 0.0) for name in PARTS}
        return laps | {
            "update": end - middle,
            "step": end - start,
            "cpu": cpu,
            "length": result.metrics["rollout/length"],
        }


def take_turns(runs: dict[str, Run], *, warm_up: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return the seconds of each step, by run; the runs take turns."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for n in range(warm_up + rounds):
        for name, run in runs.items():
            seconds[name].append(run(jax.random.key(n)))
    return {name: steps[warm_up:] for name, steps in seconds.items()}


def report(seconds: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians of the parts, and the ratio of the steps of each round."""
    columns = (*PARTS, "cpu", "length")
    print(f"{'seconds':8}" + "".join(f"{column:>12}" for column in columns))
    for name, steps in seconds.items():
        medians = (statistics.median(step[column] for step in steps) for column in columns)
        print(f"{name:8}" + "".join(f"{median:12.3f}" for median in medians))
    for column in ("step", "cpu"):
        ratios = [mig[column] / grpo[column] for grpo, mig in zip(seconds["grpo"], seconds["mig"], strict=True)]
        print(f"MIG / GRPO, {column} {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


def report_tokens(tokenizer: Tokenizer, args: argparse.Namespace) -> None:
    """Print the ratio of the tokens that must be computed: no padding, ℓ₀ once per question.

    An update counts as three forward passes over prompt and response.
    """
    lead_in = len(tokenizer.encode(tokenizer.format.lead_in))
    grpo = args.prompt / args.group_size + args.response + 3 * (args.prompt + args.response)
    # The ending is one token, a target and never an input.
    probes = (args.steps + 1 / args.group_size) * args.variants * (lead_in + args.answer)
    print(f"tokens per response: GRPO {grpo:.0f}, probes {probes:.0f}, MIG / GRPO {1 + probes / grpo:.2f}")


if __name__ == "__main__":
    main()
