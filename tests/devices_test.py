"""Eight devices do what one does: rollout, scores and update, on a mesh of all three axes."""

import jax
import numpy as np
import pytest

from mig_jax import train
from mig_jax.models import sharding
from mig_jax.policy import load_policy
from mig_jax.problems import open_training
from mig_jax.prompts import ask
from mig_jax.rollouts import Collector
from mig_jax.text.verifier import Verifier
from tests import tiny


@pytest.mark.parametrize("shape", [{"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_eight_devices_equal_one(shape):
    """Tokens are identical; the update agrees to rounding."""
    one, one_state, one_metrics = _one_step({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    many, many_state, many_metrics = _one_step(shape, jax.devices())
    np.testing.assert_array_equal(one.token_bs, many.token_bs)
    np.testing.assert_allclose(one.process_advantage_bt, many.process_advantage_bt, atol=1e-3)
    assert one_metrics["loss/total"] == pytest.approx(many_metrics["loss/total"], rel=1e-4, abs=1e-5)
    # Where a gradient is next to nothing Adam's first step has a random sign: compare what has moved for a reason.
    for a, b in zip(jax.tree.leaves(one_state.opt_state), jax.tree.leaves(many_state.opt_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def _one_step(shape, devices):
    config = tiny.get_quickstart()
    mesh = sharding.make_mesh(shape, devices=devices)
    with jax.set_mesh(mesh), Verifier(workers=1) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        ((chosen,), _) = open_training(policy, config, demonstrated=False)
        asked = ask(policy, config, chosen[:8])
        state, update = train.build_update(policy, config, "train")
        batch, _, _ = Collector(policy, config, verifier).collect(state.params, asked, jax.random.key(3))
        state, metrics_ = update(state, batch)
    return jax.device_get(batch), jax.device_get(state), jax.device_get(metrics_)
