"""A run begins with what will happen; a finished run says that it is finished."""

from collections import Counter
from types import SimpleNamespace

import jax
import pytest

from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.rollout.problem_set import FilteredDataset
from mig_jax.trainer import announce
from tests import tiny


def plan(mode="train", done=0, **changes):
    return announce.describe_plan(tiny.get_config(**changes), mode=mode, workdir="/tmp/run", done=done)


def test_devices():
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 1}, devices=jax.devices()[:4])
    assert announce.describe_devices(mesh, mode="train", workdir="/tmp/run") == (
        "train in /tmp/run, on 4 × cpu, mesh data=2, fsdp=2"
    )
    gpu = SimpleNamespace(device_kind="NVIDIA H100", platform="gpu")
    mesh = SimpleNamespace(devices=SimpleNamespace(flat=[gpu]), size=1, shape={"data": 1})
    assert announce.describe_devices(mesh, mode="sft", workdir="r") == "sft in r, on 1 × NVIDIA H100 (gpu)"


def test_model_and_parameters_that_are_trained():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    config = tiny.get_config()
    policy = load_policy(config.model, mesh, seed=0)
    count = sum(x.size for x in jax.tree.leaves(policy.params))
    told = announce.describe_model(policy, "")
    assert told == f"model: random parameters, {count / 1e3:.3g}K parameters (all trained)"
    adapted = load_policy(tiny.get_config(model__lora__rank=2).model, mesh, seed=0)
    assert "trained, " in announce.describe_model(adapted, "/m") and f"{count / 1e3:.3g}K frozen" in (
        announce.describe_model(adapted, "/m")
    )


def test_problems_are_counted_by_source():
    config = tiny.get_config(data__train="3 chain:terms=3 + 1 gsm8k", data__eval="chain:terms=3")
    kept = FilteredDataset(range(5), range(5), {}, Counter(), "")
    cut = FilteredDataset(range(2000), range(1990), {}, Counter({"with a long prompt": 7, "with a long answer": 3}), "")
    assert announce.describe_problems(config, [kept, cut], kept) == (
        "problems: chain:terms=3 5, gsm8k 1,990 (10 of 2,000 rejected); held out: chain:terms=3 5"
    )
    assert announce.describe_problems(config, [kept, cut], None).endswith("held out: none (evaluation is off)")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, ["steps: 1 to 2, each of 8 questions × 2 samples = 16 responses, of at most 72 tokens",
              "evaluation: at the start, at the end; 1 greedy and 1 sampled responses to a problem",
              "the first evaluation and the first step compile (sampling, scoring, the update), which takes"]),
        ({"done": 1, "eval__every": 5}, ["steps: 2 to 2", "evaluation: every 5 steps, at the end"]),
        ({"mode": "sft"}, ["each of 16 solutions", "step compile (the update)"]),
        ({"loss__alpha": 0.0}, ["step compile (sampling, the update)"]),
    ],
)  # fmt: skip
def test_plan(changes, words):
    told = plan(**changes)
    assert all(word in told for word in words), told
    assert max(map(len, told.splitlines())) <= 100


def test_plan_without_evaluation():
    told = plan(eval__at_start=False, eval__at_end=False)
    assert "evaluation" not in told and "the first step compiles (sampling" in told


def test_finished_run():
    told = plan(done=2)
    assert told == (
        "this run is finished: 2 of 2 steps are done, and the model is in /tmp/run/model\n"
        "to train on, give more steps: --config.steps=4"
    )
    assert "finished: 8 steps are done, more than steps=2, and" in plan(done=8) and "--config.steps=16" in plan(done=8)
    assert "use a new workdir with --model=/tmp/run/model" in plan(done=2, optimizer__decay="cosine")
