"""Adapters change nothing at first, are trained alone, and can be merged and stripped."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.learning import train_step
from mig_jax.models import decoder, lora
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.lora import LoraConfig

MODULES = ("query", "key", "value", "out", "gate", "up", "down")
# Square matrices, and gate and up of one shape: a wrong projection has the right shape and other values.
BASE = decoder.DecoderConfig(
    vocab_size=11, width=8, layers=2, heads=2, kv_heads=1, head_size=4, mlp_width=8, qkv_bias=True
)
CONFIG = dataclasses.replace(BASE, lora=LoraConfig(rank=2, alpha=6.0))
TOKEN_BT = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8]])


def flat(params):
    return traverse_util.flatten_dict(params, sep="/")


@functools.cache
def base_params():
    return decoder.init_params(BASE, jax.random.key(0))


def with_adapters(config=CONFIG, *, seed=1):
    """Return parameters with adapters as after training: B is not 0."""
    params = flat(lora.add(base_params(), config, jax.random.key(seed)))
    for number, (path, x) in enumerate(params.items()):
        if path.endswith("_lora_b"):
            params[path] = 0.3 * jax.random.normal(jax.random.key(number), x.shape)
    return traverse_util.unflatten_dict(params, sep="/")


@functools.partial(jax.jit, static_argnums=0)
def hidden(config, params):
    position_bt = jnp.broadcast_to(jnp.arange(4)[None], TOKEN_BT.shape)
    valid_bt = jnp.ones(TOKEN_BT.shape, bool)
    return decoder.bind(config, params)(TOKEN_BT, position_bt, valid_bt)[0]


def test_new_adapters_change_nothing():
    params = lora.add(base_params(), CONFIG, jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(CONFIG))
    np.testing.assert_array_equal(hidden(CONFIG, params), hidden(BASE, base_params()))
    for path, x in flat(params).items():
        assert not path.endswith("_lora_a") or np.std(x) > 0.1, path


def test_new_model_is_the_base_with_adapters():
    params = decoder.init_params(CONFIG, jax.random.key(0))
    chex.assert_trees_all_equal(lora.strip(params), base_params())
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(CONFIG))


@pytest.mark.parametrize(
    "modules, alpha, remat", [(("query", "value", "up"), 6.0, "none"), (("out", "down", "gate", "key"), 1.0, "layer")]
)
def test_merged_parameters_compute_the_same(modules, alpha, remat):
    """Of projections of the same shape, only those of `modules` are adapted."""
    config = dataclasses.replace(BASE, lora=LoraConfig(2, alpha, modules), remat=remat)
    params = with_adapters(config)
    found = hidden(config, params)
    np.testing.assert_allclose(found, hidden(BASE, lora.merge(params, config)), atol=1e-5)
    assert not np.allclose(found, hidden(BASE, base_params()), atol=1e-2)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_adapts_its_projection(module):
    config = dataclasses.replace(BASE, lora=LoraConfig(2, 6.0, (module,)))
    params = with_adapters(config)
    adapters = [path.split("/")[-1] for path in flat(params) if lora.is_adapter(path)]
    assert adapters == [f"{module}_lora_a", f"{module}_lora_b"]
    for path, x in flat(lora.merge(params, config)).items():
        assert path.endswith(f"/{module}") != np.array_equal(x, flat(params)[path]), path


def test_bfloat16():
    config, params = dataclasses.replace(CONFIG, dtype="bfloat16", param_dtype="bfloat16"), with_adapters()
    want = hidden(BASE, lora.merge(params, CONFIG))
    assert np.abs(hidden(config, params).astype(np.float32) - want).mean() < 0.03


def test_merge_equals_numpy():
    config = dataclasses.replace(BASE, lora=LoraConfig(2, 6.0, ("out",)))
    params = with_adapters(config)
    attention = {name: np.asarray(x, np.float64) for name, x in params["layers"]["attention"].items()}
    want = attention["out"] + 3 * np.einsum("lnhr,lrd->lnhd", attention["out_lora_a"], attention["out_lora_b"])
    np.testing.assert_allclose(lora.merge(params, config)["layers"]["attention"]["out"], want, rtol=1e-5, atol=1e-6)


def test_rank_and_alpha():
    params, larger = with_adapters(), dataclasses.replace(BASE, lora=LoraConfig(rank=2, alpha=12.0))
    base, small, large = (
        flat(x)["layers/mlp/up"] for x in (params, lora.merge(params, CONFIG), lora.merge(params, larger))
    )
    np.testing.assert_allclose(large - base, 2 * (small - base), rtol=1e-3, atol=1e-5)
    wider = dataclasses.replace(BASE, lora=LoraConfig(rank=3, alpha=6.0))
    assert flat(decoder.abstract_params(wider))["layers/mlp/up_lora_a"].shape == (2, 8, 3)


def test_adapters_are_float32_beside_bfloat16_parameters():
    config = dataclasses.replace(CONFIG, param_dtype="bfloat16")
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base_params())
    params = lora.add(base, config, jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(config))
    assert {x.dtype.name for path, x in flat(params).items() if lora.is_adapter(path)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(lora.merge(params, config))} == {"bfloat16"}


def test_base_shares_its_buffers():
    base = base_params()
    stripped = lora.strip(lora.add(base, CONFIG, jax.random.key(1)))
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, stripped, base))


# ------------------------------------------------------------------------------------------------------------ training


def square(config):
    return lambda params: (hidden(config, params) ** 2 * jnp.arange(8.0)[None, None]).sum()


def test_update_on_eight_devices():
    """It changes adapters only, by dL/dB = (alpha / rank) · Aᵀ dL/dW of the merged parameters."""
    config = dataclasses.replace(BASE, lora=LoraConfig(2, 6.0, ("up", "gate")), remat="layer")
    params, mesh, tx = (
        with_adapters(config),
        sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}),
        optax.sgd(1.0, 0.9),
    )
    init = functools.partial(train_step.init_state, tx=tx, trainable=lora.is_adapter)
    shardings = sharding.shardings(jax.eval_shape(init, params), decoder.param_axes(config), mesh)

    def step(state):
        trainable, frozen = train_step.partition(state.params, lora.is_adapter)
        gradients = jax.grad(lambda trainable: square(config)(train_step.combine(trainable, frozen)))(trainable)
        updates, opt_state = tx.update(gradients, state.opt_state, trainable)
        params = train_step.combine(optax.apply_updates(trainable, updates), frozen)
        return state._replace(step=state.step + 1, params=params, opt_state=opt_state)

    merged_grads = flat(jax.jit(jax.grad(square(BASE)))(lora.merge(params, config)))
    with jax.set_mesh(mesh):
        state = jax.device_put(jax.jit(init)(params), shardings)
        state = jax.jit(step, in_shardings=(shardings,), out_shardings=shardings, donate_argnums=0)(state)
    before, after = flat(params), flat(state.params)
    chex.assert_trees_all_equal(lora.strip(state.params), base_params())
    assert len(jax.tree.leaves(state.opt_state)) == 4  # one momentum for A and B of two projections
    for path in ("layers/mlp/up", "layers/mlp/gate"):
        want = 3 * np.einsum("ldr,ldf->lrf", before[path + "_lora_a"], merged_grads[path])
        np.testing.assert_allclose(before[path + "_lora_b"] - after[path + "_lora_b"], want, rtol=1e-3, atol=1e-3)
        assert (before[path + "_lora_a"] != after[path + "_lora_a"]).all()
        assert after[path + "_lora_a"].sharding.spec == sharding.P(None, "fsdp", None)
        assert after[path + "_lora_b"].sharding.spec == sharding.P(None, None, "tensor")


# -------------------------------------------------------------------------------------------------- config, checkpoint


@pytest.mark.parametrize(
    "values, found",
    [
        ({"rank": 0, "alpha": -1.0}, "rank=0: must be > 0; alpha=-1.0: must be > 0"),
        ({"modules": ("query", "q_proj")}, "choose one or more of query, key"),
        ({"modules": ()}, "one or more of"),
        ({"modules": ("up", "up")}, "each once"),
    ],
    ids=str,
)
def test_invalid_configs(values, found):
    with pytest.raises(UserError, match=found):
        LoraConfig(**({"rank": 2, "alpha": 2.0} | values))


def test_merged_parameters_are_saved_without_adapters(tmp_path):
    params = with_adapters()
    hf_weights.save(lora.merge(params, CONFIG), BASE, tmp_path)
    assert "lora" not in (tmp_path / "config.json").read_text()
