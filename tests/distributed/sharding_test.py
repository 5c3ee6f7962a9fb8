"""Eight fake devices (conftest.py) compute the same as one, with parameters and rows sharded by the rules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mig_jax.aot.collectives import Collective, read_collectives
from mig_jax.distributed import sharding
from mig_jax.models import decoder

CONFIG = decoder.DecoderConfig(
    vocab_size=24, width=16, layers=2, heads=8, kv_heads=2, head_size=4, mlp_width=32, qkv_bias=True, tied_head=False
)
ROWS, LENGTH = 8, 5


@pytest.mark.parametrize(
    "shape, sizes",
    [
        ({"data": 8}, (8, 1, 1)),
        ({"fsdp": -1}, (1, 8, 1)),
        ({"data": 2, "fsdp": -1, "tensor": 2}, (2, 2, 2)),
        ({"tensor": 8, "data": -1}, (1, 1, 8)),
    ],
)
def test_mesh(shape, sizes):
    mesh = sharding.make_mesh(shape)
    assert mesh.devices.shape == sizes and mesh.axis_names == ("data", "fsdp", "tensor")
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_mesh_of_some_devices():
    assert sharding.make_mesh({}, devices=jax.devices()[:1]).devices.shape == (1, 1, 1)


@pytest.mark.parametrize("shape", [{}, {"data": 4}, {"data": 16}, {"data": 3, "fsdp": -1}, {"data": 0}, {"model": 8}])
def test_mesh_that_does_not_fit_is_rejected(shape):
    with pytest.raises(ValueError, match="does not fit 8 devices"):
        sharding.make_mesh(shape)


def test_parameters_and_their_moments_are_sharded_by_the_rules():
    mesh = sharding.make_mesh({"fsdp": 2, "tensor": 4})
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    state = jax.eval_shape(lambda: (params := decoder.init_params(CONFIG, jax.random.key(0)), tx.init(params)))
    params, opt_state = sharding.shardings(state, decoder.param_axes(CONFIG), mesh)
    specs = jax.tree.map(lambda s: s.spec, params)
    assert specs == {
        "embedding": P("tensor", "fsdp"),
        "head": P("fsdp", "tensor"),
        "norm": P("fsdp"),
        "layers": {
            "attention_norm": P(None, "fsdp"),
            "mlp_norm": P(None, "fsdp"),
            "attention": {
                "query": P(None, "fsdp", "tensor", None),
                "query_bias": P(None, "tensor", None),
                # Two kv heads cannot be split over four devices.
                "key": P(None, "fsdp", None, None),
                "key_bias": P(None, None, None),
                "value": P(None, "fsdp", None, None),
                "value_bias": P(None, None, None),
                "out": P(None, "tensor", None, "fsdp"),
            },
            "mlp": {
                "gate": P(None, "fsdp", "tensor"),
                "up": P(None, "fsdp", "tensor"),
                "down": P(None, "tensor", "fsdp"),
            },
        },
    }
    adam = opt_state[1][0]
    assert adam.mu == adam.nu == params and adam.count == sharding.replicated_sharding(mesh)


def test_rules_are_an_argument():
    mesh = sharding.make_mesh({"fsdp": 8})
    rules = dict.fromkeys(sharding.RULES) | {"vocab": "fsdp"}
    shardings = sharding.shardings(decoder.abstract_params(CONFIG), decoder.param_axes(CONFIG), mesh, rules=rules)
    split = {jax.tree_util.keystr(path) for path, s in jax.tree_util.tree_leaves_with_path(shardings) if any(s.spec)}
    assert split == {"['embedding']", "['head']"}


def test_leaf_of_another_rank_is_replicated():
    """Such as the factored moments of Adafactor: same keys, other shapes."""
    mesh, axes = sharding.make_mesh({"fsdp": 8}), decoder.param_axes(CONFIG)
    factored = {"head": jax.ShapeDtypeStruct((16,), jnp.float32)}
    assert sharding.shardings(factored, axes, mesh) == {"head": sharding.replicated_sharding(mesh)}


def inputs():
    rng = np.random.default_rng(0)
    token_bt = rng.integers(0, CONFIG.vocab_size, (ROWS, LENGTH), np.int32)
    valid_bt = rng.random((ROWS, LENGTH)) < 0.8
    return tuple(map(jax.device_put, (token_bt, np.cumsum(valid_bt, axis=1, dtype=np.int32), valid_bt)))


def update(tx, state, token_bt, position_bt, valid_bt):
    """Return the state after one training step, and the hidden states of its forward pass."""

    def loss(params):
        model = decoder.bind(CONFIG, params)
        hidden_btd, _ = model(token_bt, position_bt, valid_bt)
        logits_btv = jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv())
        return optax.softmax_cross_entropy_with_integer_labels(logits_btv, token_bt).mean(), hidden_btd

    params, opt_state = state
    gradients, hidden_btd = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradients, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), hidden_btd


def train(mesh, steps=2):
    tx = optax.sgd(1.0, momentum=0.9)
    rows = sharding.batch_sharding(mesh)

    def init(key):
        params = decoder.init_params(CONFIG, key)
        return params, tx.init(params)

    key = jax.random.key(0)
    state_sharding = sharding.shardings(jax.eval_shape(init, key), decoder.param_axes(CONFIG), mesh)
    with jax.set_mesh(mesh):
        state = jax.jit(init, out_shardings=state_sharding)(key)
        step = jax.jit(
            lambda state, *batch: update(tx, state, *batch),
            in_shardings=(state_sharding, rows, rows, rows),
            out_shardings=(state_sharding, None),
            donate_argnums=0,
        )
        for _ in range(steps):
            state, hidden_btd = step(state, *jax.device_put(inputs(), rows))
    return state, state_sharding, hidden_btd


@pytest.fixture(scope="module")
def on_one_device():
    return train(sharding.make_mesh({}, devices=jax.devices()[:1]))


@pytest.mark.parametrize("shape", [{"fsdp": 2, "tensor": 4}])  # device_table_test has a mesh of all three axes
def test_training_on_eight_devices_equals_one(shape, on_one_device):
    mesh = sharding.make_mesh(shape)
    state, state_sharding, hidden_btd = train(mesh)
    want_state, _, want_btd = on_one_device
    np.testing.assert_allclose(hidden_btd, want_btd, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, want_state)
    assert jax.tree.map(lambda x: x.sharding, state) == state_sharding
    # FSDP needs activations split by rows only.
    assert hidden_btd.sharding.is_equivalent_to(NamedSharding(mesh, sharding.BATCH_SPEC), hidden_btd.ndim)


@pytest.mark.parametrize("kv_heads, tensor", [pytest.param(2, 4, marks=pytest.mark.slow), (1, 2)])
def test_few_kv_heads_are_replicated_and_query_heads_split(kv_heads, tensor):
    """Equals one device without sending heads: one sum after attention, one after the MLP, one of embeddings."""
    config = dataclasses.replace(CONFIG, kv_heads=kv_heads)
    params = jax.jit(decoder.init_params, static_argnums=0)(config, jax.random.key(0))
    one = jax.jit(lambda params, *rows: decoder.bind(config, params)(*rows)[0])(params, *inputs())
    mesh = sharding.make_mesh({"tensor": tensor}, devices=jax.devices()[:tensor])
    sharded = jax.device_put(params, sharding.shardings(params, decoder.param_axes(config), mesh))
    attention = jax.tree.map(lambda x: x.sharding, sharded["layers"]["attention"])
    replicated = {name for name, s in attention.items() if s.is_fully_replicated}
    assert replicated == {"key", "value", "key_bias", "value_bias"}
    assert attention["query"].spec == P(None, "fsdp", "tensor", None)
    with jax.set_mesh(mesh):
        run = jax.jit(lambda params, *rows: decoder.bind(config, params)(*rows)[0])
        compiled = run.lower(sharded, *jax.device_put(inputs(), sharding.batch_sharding(mesh))).compile()
        hidden_btd = compiled(sharded, *jax.device_put(inputs(), sharding.batch_sharding(mesh)))
    np.testing.assert_allclose(hidden_btd, one, atol=1e-4)
    collectives = read_collectives(compiled.as_text())
    assert {collective: traffic.operations for collective, traffic in collectives.items()} == {
        Collective("all-reduce", (CONFIG.layers,)): 2,
        Collective("all-reduce", ()): 1,
    }


def test_rows_are_constrained_where_the_mesh_divides_them():
    with jax.set_mesh(sharding.make_mesh({"data": 2, "fsdp": 4})):
        assert jax.jit(sharding.constrain_batch)(jnp.ones((3, 2))).shape == (3, 2)
        assert jax.jit(sharding.constrain_batch)(jnp.ones((8, 2))).sharding.spec == sharding.BATCH_SPEC
    assert len(jax.jit(sharding.constrain_batch)(jnp.ones((8, 2))).devices()) == 1
