"""A mixture of experts is trained like any other model; its routers are reported, and balanced if that is asked for."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder
from mig_jax.policy.load import load_policy
from mig_jax.trainer import train
from mig_jax.trainer.update import build_step
from tests import tiny
from tests.trainer.options_test import random_batch

pytestmark = pytest.mark.slow

SHAPE = {"count": 8, "per_token": 2, "width": 8}


def get_config(**changes):
    changes |= {f"model__init__experts__{name}": size for name, size in SHAPE.items()}
    return tiny.get_config(model__init__qkv_bias=False, model__init__qk_norm=True, **changes)


def load(config, mesh=None):
    mesh = mesh or sharding.make_mesh({}, devices=jax.devices()[:1])
    return load_policy(config.model, mesh, seed=0)


def update(config, mesh=None):
    """Return the parameters after one update, and its metrics."""
    policy = load(config, mesh)
    with jax.set_mesh(policy.mesh):
        batch = random_batch(policy)
        step = build_step(policy, config, "train")
        state, metrics = step.update(step.init(policy.params), batch)
    return jax.device_get(state.params), jax.device_get(metrics)


@pytest.fixture(scope="module")
def plain():
    return update(get_config())


def test_metrics_are_those_of_the_tokens_of_the_batch(plain):
    """Prompts and completions without padding; the last token of a row predicts nothing."""
    policy = load(get_config())
    batch = random_batch(policy)
    model = decoder.bind(policy.config, policy.params)
    is_token_bs = np.concatenate([np.ones((8, 3), bool), batch.full_mask_bt], axis=1)[:, :-1]
    position_bs = jnp.broadcast_to(jnp.arange(7), (8, 7))
    load_le = model.run(batch.token_bs[:, :-1], position_bs, jnp.ones((8, 7), bool), counted_bt=jnp.array(is_token_bs))[
        2
    ]
    share_le = load_le.assigned_e / (2 * is_token_bs.sum())
    balance = (8 * (share_le * load_le.prob_e / is_token_bs.sum()).sum(-1)).mean()
    assert plain[1]["router/largest_share"] == pytest.approx(float(share_le.max()))
    assert plain[1]["router/balance"] == pytest.approx(float(balance))


@pytest.mark.parametrize("mesh", [{"tensor": 4, "fsdp": 2}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_update_on_eight_devices_in_microbatches(plain, mesh):
    params, metrics = update(get_config(optimizer__microbatches=2), sharding.make_mesh(mesh))
    assert metrics["router/balance"] == pytest.approx(plain[1]["router/balance"], rel=1e-5)
    assert metrics["gradient/norm"] == pytest.approx(plain[1]["gradient/norm"], rel=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), params, plain[0])


def test_balance_is_a_term_of_the_loss(plain):
    params, metrics = update(get_config(loss__router_balance=0.5, optimizer__microbatches=1))
    added = metrics["loss/total"] - plain[1]["loss/total"]
    assert added == pytest.approx(0.5 * plain[1]["router/balance"], rel=1e-4)
    router, before = (x["layers"]["mlp"]["router"] for x in (params, plain[0]))
    assert np.abs(router - before).max() > 1e-3
    with pytest.raises(UserError, match=r"loss.router_balance=0.5: the model has no mixture of experts"):
        config = tiny.get_config(loss__router_balance=0.5)
        build_step(load(config), config, "train")


def test_balance_evens_out_the_routers():
    config = get_config(loss__alpha=0.0, loss__beta=0.0, loss__gamma=0.0, loss__router_balance=1.0)
    policy = load(config)
    batch, step = random_batch(policy), build_step(policy, config, "train")
    state, balances = step.init(policy.params), []
    for _ in range(30):
        state, metrics = step.update(state, batch)
        balances.append(float(metrics["router/balance"]))
    assert balances[-1] - 1 < 0.3 * (balances[0] - 1)


def test_run(tmp_path):
    """Rollouts, probes, updates and a saved folder, on a mesh that splits the experts."""
    config = get_config(mesh__data=1, mesh__fsdp=2, mesh__tensor=4)
    train.run(config, str(tmp_path), mode="train")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[1:]]
    updates = [row for row in rows if "loss/total" in row]
    assert len(updates) == 2
    assert all(1 / 8 < row["router/largest_share"] < 1 / 2 and row["router/balance"] >= 0.9 for row in updates)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "qwen3_moe"
