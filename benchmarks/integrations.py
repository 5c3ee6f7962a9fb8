"""ℓ of one model in several frameworks: differences, CPU seconds, and the lines that a user writes.

    pip install -e '.[trl,tunix]' && python benchmarks/integrations.py

The model is the quickstart's; --layers and --width draw random parameters of a larger shape. Responses are solutions of
chains with slips. Each way is called once to compile, then timed: CPU seconds, summed over threads. Frameworks that
are not installed are left out.
"""

import argparse
import functools
import importlib.util
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

import mig_jax
from mig_jax import assets, rewards
from mig_jax.data.synthetic.chains import draw_chain, write_solution
from mig_jax.integrations import encode, jax_models, stack
from mig_jax.models import decoder
from mig_jax.policy import save
from mig_jax.text.response_format import render_response

# ------------------------------------------------------------------------------------- what a user writes, after encode


def ours(model, rows):
    score = jax.jit(functools.partial(rewards.score_packed, model, model.unembed_dv()))
    return lambda: score(*stack(rows))[0]


def linen(model, variables, rows):
    return lambda: jax_models.likelihoods(model.apply, variables, rows, batch_size=len(rows))


def torch_tree(model, rows):
    from mig_jax.integrations.transformers import likelihoods

    return lambda: likelihoods(model, rows, scoring="tree", batch_size=len(rows))


def torch_pairs(model, rows):
    from mig_jax.integrations.transformers import likelihoods

    return lambda: likelihoods(model, rows, scoring="pairs", batch_size=len(rows))


def tunix_pairs(cluster, tokenizer, rows):
    from mig_jax.integrations.tunix import mig_reward

    reward = mig_reward(tokenizer, scoring="pairs", batch_size=len(rows)).attach(cluster)
    return lambda: reward.probe(rows).ell_bk


def tunix_tree(cluster, tokenizer, rows):
    from mig_jax.integrations.tunix import mig_reward

    reward = mig_reward(tokenizer, scoring="tree", batch_size=len(rows)).attach(cluster)
    return lambda: reward.probe(rows).ell_bk


# ------------------------------------------------------------------------------------------ the model in each framework


class LinenModel(nn.Module):
    """Qwen2 in Flax Linen, as a user may have it: (ids, positions, mask) -> logits."""

    config: Any

    @nn.compact
    def __call__(self, token_bt, position_bt, mask_btt):
        c = self.config
        embed = nn.Embed(c["vocab_size"], c["hidden_size"], name="embed_tokens")
        x = embed(token_bt)
        for n in range(c["num_hidden_layers"]):
            x = x + self.attention(self.norm(x, f"{n}.input_layernorm"), position_bt, mask_btt, f"{n}.self_attn")
            y = self.norm(x, f"{n}.post_attention_layernorm")
            gate, up = (self.dense(c["intermediate_size"], f"{n}.mlp.{name}_proj", y) for name in ("gate", "up"))
            x = x + self.dense(c["hidden_size"], f"{n}.mlp.down_proj", nn.silu(gate) * up)
        return embed.attend(self.norm(x, "norm"))

    def norm(self, x, name):
        return nn.RMSNorm(epsilon=self.config["rms_norm_eps"], name=name)(x)

    def dense(self, width, name, x, bias=False):
        return nn.Dense(width, use_bias=bias, name=name)(x)

    def attention(self, x, position_bt, mask_btt, name):
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        size = self.config["head_dim"]
        widths = {"q": heads * size, "k": kv_heads * size, "v": kv_heads * size}
        split = [self.dense(width, f"{name}.{part}_proj", x, bias=True) for part, width in widths.items()]
        q, k, v = (part.reshape(*x.shape[:2], -1, size) for part in split)
        angle = position_bt[..., None, None] / self.config["rope_theta"] ** (jnp.arange(0, size, 2) / size)
        q, k = (rotate(part, angle) for part in (q, k))
        k, v = (jnp.repeat(part, heads // kv_heads, axis=2) for part in (k, v))
        return self.dense(self.config["hidden_size"], f"{name}.o_proj", attend(q, k, v, mask_btt))


def rotate(x, angle):
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), b * jnp.cos(angle) + a * jnp.sin(angle)], axis=-1)


def attend(q, k, v, mask_btt):
    score = jnp.einsum("btnh,bsnh->bnts", q, k) / q.shape[-1] ** 0.5
    weight = jax.nn.softmax(jnp.where(mask_btt[:, None], score, -1e30))
    return jnp.einsum("bnts,bsnh->btnh", weight, v).reshape(*q.shape[:2], -1)


def linen_variables(folder: Path) -> dict[str, Any]:
    """Return the parameters of a Hugging Face folder for `LinenModel`."""
    leaf = {"layernorm.weight": "scale", "norm.weight": "scale", "proj.weight": "kernel", "proj.bias": "bias"}
    params: dict[str, Any] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        short = name.removeprefix("model.").removeprefix("layers.")
        kind = next((kind for end, kind in leaf.items() if short.endswith(end)), "embedding")
        params.setdefault(short.rpartition(".")[0], {})[kind] = tensor.T if kind == "kernel" else tensor
    return {"params": params}


def write_random(args: argparse.Namespace, folder: str) -> Path:
    """Write a model with random parameters and the quickstart's tokenizer; return its folder."""
    init = {"layers": args.layers, "width": args.width, "heads": 8, "kv_heads": 2, "head_size": args.width // 8}
    init["mlp_width"] = 3 * args.width
    config = mig_jax.load_config(model={"tokenizer": "characters", "init": init})
    policy = mig_jax.load_policy(config)
    save.save_policy(policy, policy.params, folder, config=config)
    return Path(folder)


def make_rows(tokenizer: Any, args: argparse.Namespace) -> list[Any]:
    """Return the encoded solutions of chains, some with slips and early guesses."""
    rng = np.random.default_rng(0)
    chains = [draw_chain(rng, terms=args.terms) for _ in range(args.rows)]
    solutions = [write_solution(rng, chain, slip_prob=0.2, early_guess_prob=0.3) for chain in chains]
    prompts = [[{"role": "user", "content": chain.question}] for chain in chains]
    responses = [render_response(*solution) for solution in solutions]
    return encode(tokenizer, prompts, responses, [chain.answer for chain in chains], kinds="number")


def ways(folder: Path, policy: Any, rows: list[Any]) -> dict[str, tuple[Callable[[], Any], list[Any]]]:
    """Return each way to score, by its name: the function to time, and the functions that a user writes."""
    model = decoder.bind(policy.config, policy.params)
    config = json.loads((folder / "config.json").read_text())
    found = {
        "our decoder, `score_packed`": (ours(model, rows), [ours]),
        "Flax Linen, tree": (linen(LinenModel(config), linen_variables(folder), rows), [linen]),
    }
    if importlib.util.find_spec("trl"):
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        found["TRL's model (torch), tree"] = torch_tree(theirs, rows), [torch_tree]
        found["TRL's model (torch), pairs"] = torch_pairs(theirs, rows), [torch_pairs]
    if importlib.util.find_spec("tunix"):
        from tests.integrations.quickstart import tunix_cluster

        cluster = tunix_cluster(policy.tokenizer.fast, folder)
        found["tunix's actor (NNX), pairs"] = tunix_pairs(cluster, policy.tokenizer.fast, rows), [tunix_pairs]
        found["tunix's actor (NNX), tree"] = tunix_tree(cluster, policy.tokenizer.fast, rows), [tunix_tree]
    return found


# ---------------------------------------------------------------------------------------------------------------- table


def count_lines(functions: list[Any]) -> int:
    """Return the lines of functions, without blank ones."""
    return sum(bool(line.strip()) for function in functions for line in inspect.getsource(function).splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=0, help="of random parameters; 0: the quickstart's model")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--terms", type=int, default=7, help="digits of each chain; its steps are one fewer")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_random(args, scratch) if args.layers else Path(assets.QUICKSTART)
        policy = mig_jax.load_policy(folder)
        rows = make_rows(policy.tokenizer, args)
        reference, table = None, []
        for name, (score, functions) in ways(folder, policy, rows).items():
            ells = [np.asarray(ell_k)[: row.n_cuts] for ell_k, row in zip(score(), rows, strict=True)]
            seconds = []
            for _ in range(args.repeats):
                start = time.process_time()
                jax.block_until_ready(score())
                seconds.append(time.process_time() - start)
            reference = reference or ells
            gap = max(np.abs(a - b).max() for a, b in zip(ells, reference, strict=True))
            table.append((name, gap, statistics.median(seconds), count_lines(functions)))
    n_probes, n_tokens = sum(row.n_cuts for row in rows), sum(len(row.token_s) for row in rows)
    print(f"{len(rows)} responses, {n_probes} probes, {n_tokens} tokens of prompts and responses\n")
    print("| ℓ by | largest difference, nats | CPU seconds | lines |\n|---|---:|---:|---:|")
    for name, gap, seconds, lines in table:
        print(f"| {name} | {gap:.1e} | {seconds:.3f} | {lines} |")


if __name__ == "__main__":
    main()
