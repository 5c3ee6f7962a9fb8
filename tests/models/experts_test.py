"""A mixture of experts is the weighted sum of the chosen experts of each token, alone or split over a mesh."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models.adapters import LoraConfig
from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.experts import Experts, ExpertsConfig
from mig_jax.models.layers import Initializer

CONFIG, WIDTH = ExpertsConfig(count=8, per_token=3, width=5, is_normalized=True), 6


@functools.cache
def make(config=CONFIG, seed=0):
    return Experts(config, WIDTH, Initializer(nnx.Rngs(seed), "float32"))


@functools.partial(jax.jit, static_argnums=0)
def apply_split(graphdef, params, *args):
    return nnx.merge(graphdef, params)(*args)


def apply(experts, *args):
    return apply_split(*nnx.split(experts), *args)


def inputs(rows=8, length=7, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, length, WIDTH)).astype(np.float32)


def one_by_one(experts, x_btd):
    """Return what the formula gives, token by token."""
    router, gate, up, down = (np.array(x[...]) for x in (experts.router, experts.gate, experts.up, experts.down))
    out_nd = []
    for x in np.array(x_btd).reshape(-1, WIDTH):
        prob_e = np.exp(x @ router) / np.exp(x @ router).sum()
        chosen = np.argsort(-prob_e)[: experts.config.per_token]
        weights = prob_e[chosen] / (prob_e[chosen].sum() if experts.config.is_normalized else 1)
        outs = [((x @ gate[e]) / (1 + np.exp(-(x @ gate[e]))) * (x @ up[e])) @ down[e] for e in chosen]
        out_nd.append(sum(w * out for w, out in zip(weights, outs, strict=True)))
    return np.reshape(out_nd, x_btd.shape)


@pytest.mark.parametrize("normalized", [True, False])
def test_formula(normalized):
    experts = make(ExpertsConfig(8, 3, 5, normalized))
    np.testing.assert_allclose(apply(experts, inputs())[0], one_by_one(experts, inputs()), atol=1e-5)


def test_no_token_is_dropped_when_all_choose_the_same():
    experts, x_btd = make(), np.tile(inputs(1, 1), (8, 7, 1))
    np.testing.assert_allclose(apply(experts, x_btd)[0], one_by_one(experts, x_btd), atol=1e-5)


def test_load_counts_the_given_tokens():
    experts, x_btd = make(), inputs()
    counted_bt = np.random.default_rng(2).random(x_btd.shape[:2]) < 0.5
    _, load = apply(experts, x_btd, counted_bt)
    score_ne = (x_btd @ np.array(experts.router[...]))[counted_bt]
    chosen_nc = np.argsort(-score_ne)[:, :3]
    np.testing.assert_array_equal(load.assigned_e, np.bincount(chosen_nc.ravel(), minlength=8))
    np.testing.assert_allclose(load.prob_e, jax.nn.softmax(score_ne).sum(0), rtol=1e-5)
    assert apply(experts, x_btd)[1] is None


def test_experts_per_token_are_at_most_all():
    with pytest.raises(UserError, match="9 experts per token: must be 1 to 8"):
        ExpertsConfig(8, 9, 5, True)


def test_experts_have_no_adapters():
    shape = DecoderConfig(
        vocab_size=9, width=6, layers=1, heads=1, kv_heads=1, head_size=2, mlp_width=4, experts=CONFIG,
        lora=LoraConfig(2, 4.0, ("query", "out")),
    )  # fmt: skip
    assert shape.lora
    with pytest.raises(UserError, match="adapters of query, up: in a mixture of experts only attention can have them"):
        dataclasses.replace(shape, lora=LoraConfig(2, 4.0, ("query", "up")))


ALL_AXES = {"data": 2, "fsdp": 2, "tensor": 2}
MESHES = [{"tensor": 8}, {"fsdp": 2, "tensor": 4}, {"data": 4, "fsdp": 2}]


@pytest.mark.parametrize(
    "shape, rows",
    [
        (ALL_AXES, 8),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(ALL_AXES, 3), *((s, 8) for s in MESHES)]),
    ],
    ids=str,
)
def test_mesh_of_eight(shape, rows):
    """Outputs and gradients equal those of one device; three rows cannot be split."""
    graphdef, params = nnx.split(make())
    x_btd, mesh = inputs(rows), sharding.make_mesh(shape)

    def loss(params, x_btd):
        return (nnx.merge(graphdef, params)(x_btd)[0] ** 2).sum()

    def put(x):
        spec = sharding.partition_spec(x.shape, x.get_metadata()["axes"][-x.ndim :], mesh)
        return jax.device_put(x, NamedSharding(mesh, spec))

    want = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x_btd)
    with jax.set_mesh(mesh):
        split = jax.tree.map(put, params, is_leaf=lambda x: isinstance(x, nnx.Param))
        got = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(split, x_btd)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
