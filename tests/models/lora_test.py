"""Adapters: nothing at first, then what their matrices say; trained alone; merged, stripped, stored as PEFT does."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import traverse_util

from mig_jax.distributed import sharding
from mig_jax.learning import train_step
from mig_jax.models import decoder, lora
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.lora import LoraConfig

MODULES = ("query", "key", "value", "out", "gate", "up", "down")
# Square matrices, and gate and up alike: what is mistaken for another shows.
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
    """Adapters as training leaves them: B is not 0."""
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


def test_fresh_adapters_change_nothing():
    params = lora.add(base_params(), CONFIG, jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(CONFIG))
    np.testing.assert_array_equal(hidden(CONFIG, params), hidden(BASE, base_params()))
    for path, x in flat(params).items():
        assert not path.endswith("_lora_a") or np.std(x) > 0.1, path


def test_a_fresh_model_is_the_base_and_adapters():
    params = decoder.init_params(CONFIG, jax.random.key(0))
    chex.assert_trees_all_equal(lora.strip(params), base_params())
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(CONFIG))


@pytest.mark.parametrize(
    "modules, alpha, remat", [(("query", "value", "up"), 6.0, "none"), (("out", "down", "gate", "key"), 1.0, "layer")]
)
def test_adapters_are_the_sums_that_they_are_merged_to(modules, alpha, remat):
    """Of weights alike in shape one is adapted, the other is not."""
    config = dataclasses.replace(BASE, lora=LoraConfig(2, alpha, modules), remat=remat)
    params = with_adapters(config)
    found = hidden(config, params)
    np.testing.assert_allclose(found, hidden(BASE, lora.merge(params, config)), atol=1e-5)
    assert not np.allclose(found, hidden(BASE, base_params()), atol=1e-2)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_its_adapter_and_changes_its_weight(module):
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


def test_merging_by_hand():
    config = dataclasses.replace(BASE, lora=LoraConfig(2, 6.0, ("out",)))
    params = with_adapters(config)
    attention = {name: np.asarray(x, np.float64) for name, x in params["layers"]["attention"].items()}
    want = attention["out"] + 3 * np.einsum("lnhr,lrd->lnhd", attention["out_lora_a"], attention["out_lora_b"])
    np.testing.assert_allclose(lora.merge(params, config)["layers"]["attention"]["out"], want, rtol=1e-5, atol=1e-6)


def test_rank_and_alpha_matter():
    params, louder = with_adapters(), dataclasses.replace(BASE, lora=LoraConfig(rank=2, alpha=12.0))
    weight, quiet, loud = (
        flat(x)["layers/mlp/up"] for x in (params, lora.merge(params, CONFIG), lora.merge(params, louder))
    )
    np.testing.assert_allclose(loud - weight, 2 * (quiet - weight), rtol=1e-3, atol=1e-5)
    wider = dataclasses.replace(BASE, lora=LoraConfig(rank=3, alpha=6.0))
    assert flat(decoder.abstract_params(wider))["layers/mlp/up_lora_a"].shape == (2, 8, 3)


def test_adapters_are_float32_beside_bfloat16_weights():
    config = dataclasses.replace(CONFIG, param_dtype="bfloat16")
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base_params())
    params = lora.add(base, config, jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(config))
    assert {x.dtype.name for path, x in flat(params).items() if lora.is_adapter(path)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(lora.merge(params, config))} == {"bfloat16"}


def test_the_base_is_the_same_buffers():
    base = base_params()
    stripped = lora.strip(lora.add(base, CONFIG, jax.random.key(1)))
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, stripped, base))


# ---------------------------------------------------------------------------------------------------------- in training


def square(config):
    return lambda params: (hidden(config, params) ** 2 * jnp.arange(8.0)[None, None]).sum()


def test_an_update_on_eight_devices():
    """It changes adapters alone, and by dL/dB = (alpha / rank) · Aᵀ dL/dW of the merged weights."""
    config = dataclasses.replace(BASE, lora=LoraConfig(2, 6.0, ("up", "gate")), remat="layer")
    params, mesh, tx = (
        with_adapters(config),
        sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}),
        optax.sgd(1.0, 0.9),
    )
    init = functools.partial(train_step.init_state, tx=tx, trainable=lora.is_adapter)
    placed = sharding.shardings(jax.eval_shape(init, params), decoder.param_axes(config), mesh)

    def step(state):
        trained, frozen = train_step.partition(state.params, lora.is_adapter)
        gradients = jax.grad(lambda trained: square(config)(train_step.combine(trained, frozen)))(trained)
        updates, opt_state = tx.update(gradients, state.opt_state, trained)
        moved = train_step.combine(optax.apply_updates(trained, updates), frozen)
        return state._replace(step=state.step + 1, params=moved, opt_state=opt_state)

    of_merged = flat(jax.jit(jax.grad(square(BASE)))(lora.merge(params, config)))
    with jax.set_mesh(mesh):
        state = jax.device_put(jax.jit(init)(params), placed)
        state = jax.jit(step, in_shardings=(placed,), out_shardings=placed, donate_argnums=0)(state)
    before, after = flat(params), flat(state.params)
    chex.assert_trees_all_equal(lora.strip(state.params), base_params())
    assert len(jax.tree.leaves(state.opt_state)) == 4  # a momentum for A and B of two weights
    for path in ("layers/mlp/up", "layers/mlp/gate"):
        want = 3 * np.einsum("ldr,ldf->lrf", before[path + "_lora_a"], of_merged[path])
        np.testing.assert_allclose(before[path + "_lora_b"] - after[path + "_lora_b"], want, rtol=1e-3, atol=1e-3)
        assert (before[path + "_lora_a"] != after[path + "_lora_a"]).all()
        assert after[path + "_lora_a"].sharding.spec == sharding.P(None, "fsdp", None)
        assert after[path + "_lora_b"].sharding.spec == sharding.P(None, None, "tensor")


# ------------------------------------------------------------------------------------------------------- configs, files


@pytest.mark.parametrize(
    "values, found",
    [
        ({"rank": 0, "alpha": -1.0}, "rank=0: must be > 0; alpha=-1.0: must be > 0"),
        ({"modules": ("query", "q_proj")}, "one or more of query, key"),
        ({"modules": ()}, "one or more of"),
        ({"modules": ("up", "up")}, "each once"),
    ],
    ids=str,
)
def test_refused_configs(values, found):
    with pytest.raises(ValueError, match=found):
        LoraConfig(**({"rank": 2, "alpha": 2.0} | values))


def test_merged_weights_are_saved_like_any(tmp_path):
    params = with_adapters()
    hf_weights.save(lora.merge(params, CONFIG), BASE, tmp_path)
    assert "lora" not in (tmp_path / "config.json").read_text()


def test_peft_files_hold_the_adapters(tmp_path):
    params = with_adapters()
    lora.save_peft(params, CONFIG, tmp_path, base="somewhere/base")
    assert lora.base_of(tmp_path) == "somewhere/base" and lora.base_of(tmp_path / "none") == ""
    config, again = lora.load_peft(tmp_path, BASE, base_params())
    assert config == CONFIG
    chex.assert_trees_all_equal(again, params)
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn.o_proj.lora_{}.weight"
    np.testing.assert_array_equal(
        tensors[name.format("A")][1], flat(params)["layers/attention/out_lora_a"][1, :, :, 1].ravel()
    )
    assert tensors[name.format("B")].shape == (8, 2) and len(tensors) == 2 * 2 * 7


def test_peft_files_that_do_not_fit_are_refused_whole(tmp_path):
    lora.save_peft(with_adapters(), CONFIG, tmp_path, base="")
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.{}.lora_{}.weight"
    del tensors[name.format("up_proj", "A")]
    tensors[name.format("gate_proj", "B")] = np.zeros((9, 2), np.int32)
    tensors["elsewhere"] = np.zeros(1, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "adapter_model.safetensors")
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw | {"use_dora": True, "bias": "all", "lora_alpha": 0}))
    with pytest.raises(ValueError) as caught:
        lora.load_peft(tmp_path, BASE, base_params())
    for part in (
        "use_dora=True: is not supported", "bias='all': must be 'none'", "lora_alpha=0: must be > 0",
        f"missing: {name.format('up_proj', 'A')} [2, 8]", "gate_proj.lora_B.weight is [9, 2], not [8, 2]",
        "gate_proj.lora_B.weight is I32, not one of F32", "unexpected: elsewhere",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_files_that_are_missing_or_empty(tmp_path):
    lora.save_peft(with_adapters(), CONFIG, tmp_path, base="")
    safetensors.numpy.save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="there is no adapter"):
        lora.load_peft(tmp_path, BASE, base_params())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(ValueError, match="base_model_name_or_path is empty"):
        lora.base_of(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="adapter_model.safetensors"):
        lora.load_peft(tmp_path, BASE, base_params())
