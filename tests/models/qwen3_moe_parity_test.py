"""Qwen3-MoE equals transformers: logits, gradients, sampling, folders both ways, adapters. Needs torch.

    pip install torch peft && pytest tests/models/qwen3_moe_parity_test.py

Everything is float32 on the CPU with tiny random models, see `transformers_parity_test`.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder, lora, sampler
from mig_jax.models.adapters import LoraConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import peft as hf_peft
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.huggingface.origin import read_origin

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from tools import make_reference  # noqa: E402

SIZES = make_reference.SIZES | dict(
    head_dim=8, moe_intermediate_size=24, num_experts=8, num_experts_per_tok=3, intermediate_size=40, eos_token_id=None
)
MODELS = {
    "normalized": {"norm_topk_prob": True},
    "not normalized, biases, tied": {"norm_topk_prob": False, "attention_bias": True, "tie_word_embeddings": True},
    "one of two experts": {"norm_topk_prob": False, "num_experts": 2, "num_experts_per_tok": 1},
    "all experts": {"norm_topk_prob": True, "num_experts_per_tok": 8},
}
INPUTS = make_reference.sample_inputs(seed=4)
MESHES = [{"tensor": 8}, {"fsdp": 2, "tensor": 4}, {"data": 2, "fsdp": 2, "tensor": 2}]


def make(name="normalized", seed=3):
    config = transformers.Qwen3MoeConfig(**SIZES | MODELS[name])
    return make_reference.make_model(config, seed=seed)


def read(model, folder, **options):
    model.save_pretrained(folder, **options)
    config = hf_config.read_config(folder)
    return config, hf_weights.load(folder, config)


def logits(config, params, token_bt, position_bt):
    model = decoder.bind(config, params)
    hidden_btd, _ = model(jnp.array(token_bt), jnp.array(position_bt), jnp.ones(token_bt.shape, bool))
    return jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv())


def by_expert(tensors):
    """Return tensors with one for each expert in place of one for all, as they are on disk."""
    split = {}
    for name, x in tensors.items():
        start, _, last = name.rpartition(".")
        if last not in ("gate_up_proj", "down_proj"):
            split[name] = x
            continue
        names = ("gate_proj", "up_proj") if last == "gate_up_proj" else (last,)
        for expert, matrix in enumerate(x):
            for projection, part in zip(names, np.split(matrix, len(names)), strict=True):
                split[f"{start}.{expert}.{projection}.weight"] = part
    return split


@pytest.mark.parametrize("name", MODELS)
def test_logits(name, tmp_path):
    model = make(name)
    want_btv = make_reference.logits_of(model, *INPUTS)
    np.testing.assert_allclose(logits(*read(model, tmp_path), *INPUTS), want_btv, atol=1e-4)


def test_fused_tensors_are_read(tmp_path):
    """transformers 5 holds the experts of a layer in one tensor, and can write it so."""
    model = make()
    config, params = read(model, tmp_path / "split")
    same_config, same = read(model, tmp_path / "fused", save_original_format=False)
    names = safetensors.numpy.load_file(tmp_path / "fused" / "model.safetensors")
    assert names["model.layers.1.mlp.experts.gate_up_proj"].shape == (8, 48, 32)
    assert same_config == config
    jax.tree.map(np.testing.assert_array_equal, same, params)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_parameter(name, tmp_path):
    model = make(name, seed=5)
    token_bt, position_bt = make_reference.sample_inputs(seed=6)
    config, params = read(model, tmp_path)

    def loss(params):
        logprob_btv = jax.nn.log_softmax(logits(config, params, token_bt, position_bt)[:, :-1])
        return -jnp.take_along_axis(logprob_btv, jnp.array(token_bt)[:, 1:, None], axis=-1).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    output = model(torch.tensor(token_bt), position_ids=torch.tensor(position_bt), labels=torch.tensor(token_bt))
    output.loss.backward()
    hf_weights.save(grads, config, tmp_path / "grads")
    ours = safetensors.numpy.load_file(tmp_path / "grads" / "model.safetensors")
    theirs = by_expert({name: param.grad.numpy() for name, param in model.named_parameters()})
    assert set(ours) == set(theirs) and abs(value - output.loss.item()) < 1e-5
    assert np.linalg.norm(theirs["model.layers.0.mlp.gate.weight"]) > 1e-6 or config.experts.per_token == 1
    for param, want in theirs.items():
        assert np.linalg.norm(ours[param] - want) <= 1e-3 * np.linalg.norm(want) + 1e-7, param


PROMPTS = [[5, 17, 80, 3, 41, 9, 66], [12, 7, 33], [90]]


def test_greedy_tokens_equal_generate(tmp_path):
    """Left-padded prompts of different lengths; padding chooses experts too, and changes nothing."""
    model, width = make(seed=10), max(map(len, PROMPTS))
    token_qs = np.array([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    start_q = np.array([width - len(prompt) for prompt in PROMPTS])
    mask_qs = torch.tensor(np.arange(width)[None] >= start_q[:, None]).long()
    with torch.no_grad():
        out = model.generate(
            torch.tensor(token_qs), attention_mask=mask_qs, do_sample=False, max_new_tokens=32, pad_token_id=0
        )
    config, params = read(model, tmp_path)
    got = jax.jit(
        lambda params: sampler.sample(
            decoder.bind(config, params), sampler.Prompts(jnp.array(token_qs), jnp.array(start_q)), jax.random.key(0),
            group_size=1, max_new_tokens=32, temperature=0, stop_ids=(), pad_id=0,
        )
    )(params)  # fmt: skip
    np.testing.assert_array_equal(got.token_bt, out.numpy()[:, width:])


@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 20_000])
@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_what_we_save(name, max_shard_bytes, tmp_path):
    model = make(name, seed=11)
    config, params = read(model, tmp_path / "theirs")
    saving = {"max_shard_bytes": max_shard_bytes, "eos_ids": (5, 6), "origin": read_origin(tmp_path / "theirs")}
    hf_weights.save(params, config, tmp_path / "ours", **saving)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    for param, want in model.state_dict().items():
        assert torch.equal(again.state_dict()[param], want), param
    assert type(again) is type(model)
    np.testing.assert_array_equal(make_reference.logits_of(again, *INPUTS), make_reference.logits_of(model, *INPUTS))
    raw = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert raw["num_experts"] == config.experts.count and raw["router_aux_loss_coef"] == 0.001


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_eight_devices_load_and_compute_the_same(shape, tmp_path):
    model, mesh = make(), sharding.make_mesh(shape)
    model.save_pretrained(tmp_path)
    config = hf_config.read_config(tmp_path)
    shardings = sharding.shardings(decoder.abstract_params(config), decoder.param_axes(config), mesh)
    params = hf_weights.load(tmp_path, config, shardings=shardings)
    gate = params["layers"]["mlp"]["gate"]
    assert gate.sharding.shard_shape(gate.shape)[1] == 8 // mesh.shape["tensor"]
    token_bt, position_bt = (np.tile(x, (4, 1)) for x in INPUTS)
    with jax.set_mesh(mesh):
        got_btv = jax.jit(lambda params: logits(config, params, token_bt, position_bt))(params)
    np.testing.assert_allclose(got_btv, make_reference.logits_of(model, token_bt, position_bt), atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # names that transformers has deprecated
def test_adapters_of_attention_equal_those_of_peft(tmp_path):
    peft = pytest.importorskip("peft")
    model = make(seed=12)
    plain = make_reference.logits_of(model, *INPUTS)
    config, params = read(model, tmp_path / "base")
    config = dataclasses.replace(config, lora=LoraConfig(3, 6.0, ("query", "key", "value", "out")))
    params = lora.add(params, config, jax.random.key(0))
    attention = params["layers"]["attention"]
    for name in ("query", "key", "value", "out"):
        b = attention[f"{name}_lora_b"]
        attention[f"{name}_lora_b"] = 0.2 * jax.random.normal(jax.random.key(len(name)), b.shape)
    hf_peft.save(params, config, tmp_path / "adapter", str(tmp_path / "base"))
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    found = logits(config, params, *INPUTS)
    np.testing.assert_allclose(found, make_reference.logits_of(adapted, *INPUTS), atol=1e-4)
    assert np.abs(found - plain).max() > 0.1
    again, loaded = hf_peft.load(tmp_path / "adapter", dataclasses.replace(config, lora=None), lora.strip(params))
    assert again.lora == config.lora
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_adapters_of_experts_are_refused_in_one_line(tmp_path):
    config, params = read(make(), tmp_path)
    name = "base_model.model.model.layers.{}.mlp.experts.{}.gate_proj.lora_A.weight"
    tensors = {name.format(layer, expert): np.zeros((2, 32), np.float32) for layer in range(2) for expert in range(8)}
    safetensors.numpy.save_file(tensors, tmp_path / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "bias": "none", "r": 2, "lora_alpha": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"adapters of experts, .*layers.0.mlp.experts.0.gate_proj.*and 15 more$"):
        hf_peft.load(tmp_path, config, params)
