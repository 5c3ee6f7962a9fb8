"""The decoder equals transformers for every flag: parts, logits, gradients and sampling. Needs torch.

    pip install torch && pytest tests/models/transformers_parity_test.py

Everything is float32 on the CPU with tiny random models (`make_reference.make_model`). `FLAGS` holds every combination
of tied heads, biases and rotary scalings of the families; tests that compile for each one run on `SOME`.
"""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from mig_jax.models import decoder, sampler
from mig_jax.models.families import rope_fields
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.huggingface.origin import read_origin
from mig_jax.models.layers import rms_norm
from mig_jax.models.rope import attention_factor, make_rope, rope_frequencies

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from tools import make_reference  # noqa: E402
from tools.make_reference import GEMMA3, LLAMA3, SIZES, YARN  # noqa: E402

CONFIG = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "mistral": transformers.MistralConfig,
    "seed_oss": transformers.SeedOssConfig,
    "smollm3": transformers.SmolLM3Config,
    "gemma3_text": transformers.Gemma3TextConfig,
}
# Fields that choose biases, or turn off what the decoder does not compute. Qwen2 has biases of its own, Mistral none.
FIELDS = {
    "qwen2": {},
    "mistral": {"sliding_window": None},
    "seed_oss": {"attention_out_bias": False, "pad_token_id": None},
    "smollm3": {"no_rope_layers": [0, 1], "pad_token_id": None},
    "gemma3_text": {name: value for name, value in GEMMA3.items() if name not in ("head_dim", "rope_parameters")},
}
# Windows shorter than the inputs: in all layers, or from one on.
WINDOWS = {
    "mistral": {"sliding_window": 5},
    "qwen2": {"sliding_window": 3, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"sliding_window": 4, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]},
}
ROPES = {
    "plain": {"rope_type": "default", "rope_theta": 1e6},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5},
    "llama3": LLAMA3,
    "yarn": YARN,
    # All fields of yarn except mscale, which transformers reads only if attention_factor is absent.
    "yarn_all": YARN | {"attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
    "yarn_mscale": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
}
# Those with which transformers reads all fields of the object of one kind of layer.
GEMMA_ROPES = ("plain", "linear", "llama3", "yarn")
# Query heads, key-value heads, head size: grouped, one key head for all, ungrouped. N·H is equal to, more than and less
# than the width of 32.
HEADS = [(4, 2, 8), (4, 1, 16), (2, 2, 10)]


def _flags() -> dict[str, transformers.PretrainedConfig]:
    biases = {
        "llama": (False, True), "qwen2": (True,), "qwen3": (False, True), "mistral": (False,), "seed_oss": (True,),
        "smollm3": (False,), "gemma3_text": (False,),
    }  # fmt: skip
    combinations = [
        (family, tied, bias, name)
        for family in CONFIG
        for tied, bias, name in itertools.product((False, True), biases[family], ROPES)
        if family != "gemma3_text" or name in GEMMA_ROPES
    ]
    configs = {}
    for i, (family, tied, bias, name) in enumerate(combinations):
        heads, kv_heads, head_size = HEADS[i % len(HEADS)]
        sizes = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_size}
        own = FIELDS.get(family, {"attention_bias": bias})
        rope = dict(ROPES[name])  # a copy, because transformers keeps and extends it
        if family == "gemma3_text":
            rope = {"full_attention": rope, "sliding_attention": dict(GEMMA3["rope_parameters"]["sliding_attention"])}
        configs[f"{family}-{'tied' if tied else 'untied'}{'-bias' * bias}-{name}"] = CONFIG[family](
            **SIZES | sizes | {"max_position_embeddings": 4096, "eos_token_id": None, "bos_token_id": None},
            **own,
            tie_word_embeddings=tied,
            rope_parameters=rope,
        )
    windows = {f"{family}-window": CONFIG[family](**SIZES, head_dim=8, **fields) for family, fields in WINDOWS.items()}
    return configs | windows


FLAGS = _flags()
SOME = [
    "llama-untied-llama3",
    "llama-tied-bias-linear",
    "qwen2-tied-bias-plain",
    "qwen2-untied-bias-yarn",
    "qwen3-tied-yarn_all",
    "qwen3-untied-bias-plain",
    "mistral-untied-yarn",
    "seed_oss-untied-bias-plain",
    "smollm3-tied-yarn_all",
    "gemma3_text-tied-linear",
    "gemma3_text-untied-plain",
    *(f"{family}-window" for family in WINDOWS),
]


def read(model, folder):
    """Return config and parameters of a transformers model, read from the folder it saves."""
    model.save_pretrained(folder)
    config = hf_config.read_config(folder)
    return config, hf_weights.load(folder, config)


def logits(config, params, token_bt, position_bt):
    model = decoder.bind(config, params)
    valid_bt = jnp.ones(token_bt.shape, bool)
    hidden_btd, _ = model(jnp.array(token_bt), jnp.array(position_bt), valid_bt)
    return jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv())


def test_flags_hold_every_combination():
    others = (2 * 2 + 2 + 2 * 2 + 3 * 2) * len(ROPES)
    assert len(FLAGS) == others + 2 * len(GEMMA_ROPES) + len(WINDOWS) and set(SOME) < set(FLAGS)
    wider = {c.num_attention_heads * c.head_dim - c.hidden_size for c in FLAGS.values()}
    assert wider == {0, 32, -12}


@pytest.mark.parametrize("name", FLAGS)
def test_logits(name, tmp_path):
    model, inputs = make_reference.make_model(FLAGS[name], seed=3), make_reference.sample_inputs(seed=4)
    want_btv = make_reference.logits_of(model, *inputs)
    np.testing.assert_allclose(logits(*read(model, tmp_path), *inputs), want_btv, atol=1e-4)


@pytest.mark.parametrize("saved", ["attn_factor", "both names, as we write them"])
def test_attn_factor(saved, tmp_path):
    """transformers does not read it; serving engines multiply their attention factor by it."""
    folder, inputs = tmp_path / "model", make_reference.sample_inputs(seed=4)
    theirs = transformers.LlamaConfig(
        **SIZES | {"max_position_embeddings": 4096}, rope_parameters=YARN | {"attention_factor": 1.0}
    )
    model = make_reference.make_model(theirs, seed=3)
    model.save_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text())
    del raw["rope_parameters"]["attention_factor"]
    raw["rope_parameters"]["attn_factor"] = 1 / (0.1 * math.log(4) + 1)
    (folder / "config.json").write_text(json.dumps(raw))
    config = hf_config.read_config(folder)
    params = hf_weights.load(folder, config)
    if saved != "attn_factor":
        hf_weights.save(params, config, folder)
        again = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        np.testing.assert_allclose(
            make_reference.logits_of(again, *inputs), make_reference.logits_of(model, *inputs), atol=1e-5
        )
        config = hf_config.read_config(folder)
    np.testing.assert_allclose(logits(config, params, *inputs), make_reference.logits_of(model, *inputs), atol=1e-4)


@pytest.mark.parametrize("name", SOME)
def test_gradients_of_every_parameter(name, tmp_path):
    """Of the mean negative log-likelihood of the next token. Ours are saved like parameters, to compare by name."""
    model = make_reference.make_model(FLAGS[name], seed=5)
    token_bt, position_bt = make_reference.sample_inputs(seed=6)
    config, params = read(model, tmp_path)

    def loss(params):
        logprob_btv = jax.nn.log_softmax(logits(config, params, token_bt, position_bt)[:, :-1])
        return -jnp.take_along_axis(logprob_btv, jnp.array(token_bt)[:, 1:, None], axis=-1).mean()

    value, grads = jax.value_and_grad(loss)(params)
    output = model(torch.tensor(token_bt), position_ids=torch.tensor(position_bt), labels=torch.tensor(token_bt))
    output.loss.backward()
    hf_weights.save(grads, config, tmp_path / "grads")
    ours = safetensors.numpy.load_file(tmp_path / "grads" / "model.safetensors")
    theirs = {name: param.grad.numpy() for name, param in model.named_parameters()}
    assert set(ours) == set(theirs) and abs(value - output.loss.item()) < 1e-5
    for param, want in theirs.items():
        assert np.linalg.norm(want) > 1e-6, param
        assert np.linalg.norm(ours[param] - want) <= 1e-3 * np.linalg.norm(want), param


@pytest.mark.parametrize("kind", ROPES)
def test_cos_and_sin(kind):
    """At sizes of published models: heads of 64 and 128, positions up to the end of long contexts."""
    position_bt = np.array([[0, 1, 2, 777, 8191, 30_000, 131_071]])
    for head_size, theta in [(64, 5e5), (128, 1e6), (80, 1e4)]:
        parameters = ROPES[kind] | {"rope_theta": theta}
        if "original_max_position_embeddings" in parameters:
            parameters |= {"original_max_position_embeddings": 8192}
        theirs = transformers.LlamaConfig(
            hidden_size=4 * head_size, num_attention_heads=4, rope_parameters=dict(parameters),
            max_position_embeddings=131_072,
        )  # fmt: skip
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(theirs)
        scaling = rope_fields.read_scaling(parameters)
        frequencies = rope_frequencies(head_size, theta, scaling)
        # Equal, except for a few pairs where torch's power is off by a unit in the last place.
        np.testing.assert_array_max_ulp(frequencies, rotary.inv_freq.numpy(), maxulp=2)
        assert (frequencies == rotary.inv_freq.numpy()).mean() > 0.95
        want = rotary(torch.zeros(1), torch.tensor(position_bt))
        for ours, part in zip(make_rope(position_bt, frequencies, (), attention_factor(scaling)), want, strict=True):
            # A unit in the last place of a frequency changes the angle at position 131,071 by up to 0.004.
            np.testing.assert_allclose(np.concatenate([ours, ours], -1)[:, :6], part.numpy()[:, :6], atol=2e-3)
            exact = np.concatenate([frequencies == rotary.inv_freq.numpy()] * 2)
            got = np.concatenate([ours, ours], -1)[..., exact]
            np.testing.assert_allclose(got, part.numpy()[..., exact], atol=1e-6)


@pytest.mark.parametrize("name", SOME)
def test_part_by_part(name, tmp_path):
    """Norm, attention, MLP and a whole layer, each with the same inputs; attention to all tokens before."""
    model = make_reference.make_model(FLAGS[name], seed=7)
    config, params = read(model, tmp_path)
    theirs = model.model.layers[1]
    graphdef, stacked = nnx.split(decoder.bind(config, params).layers)
    ours = nnx.merge(graphdef, jax.tree.map(lambda x: x[1], stacked))
    x_btd = np.random.default_rng(8).normal(size=(2, 11, config.width)).astype(np.float32)
    _, position_bt = make_reference.sample_inputs(seed=9)
    frequencies = rope_frequencies(config.head_size, config.rope_theta, config.rope_scaling)
    rope = make_rope(jnp.array(position_bt), frequencies, (), attention_factor(config.rope_scaling))
    assert 1 not in config.no_rope_layers
    valid_bt = jnp.ones(position_bt.shape, bool)
    x, x_torch = jnp.array(x_btd), torch.tensor(x_btd)
    kind = ("full_attention",) if config.window_rope_theta else ()
    full = {
        "position_embeddings": model.model.rotary_emb(x_torch, torch.tensor(position_bt), *kind),
        "attention_mask": torch.full((x_torch.shape[1],) * 2, -torch.inf).triu(1)[None, None],
    }
    with torch.no_grad():
        pairs = {
            "norm": (
                rms_norm(x, ours.attention_norm, config.norm_eps, is_shifted=config.shifted_norms),
                theirs.input_layernorm(x_torch),
            ),
            "attention": (ours.attention(x, rope, valid_bt, ())[0], theirs.self_attn(x_torch, **full)[0]),
            "mlp": (ours.mlp(x), theirs.mlp(x_torch)),
            "layer": (ours(x, rope, valid_bt, ())[0], theirs(x_torch, **full)),
        }
    for part, (got, want) in pairs.items():
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5, rtol=1e-5, err_msg=part)


PROMPTS = [[5, 17, 80, 3, 41, 9, 66], [12, 7, 33], [90]]


def padded(prompts, pad_id):
    width = max(map(len, prompts))
    rows = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    return np.array(rows), np.array([width - len(prompt) for prompt in prompts])


def generate(model, token_qs, start_q, *, tokens, eos_ids, pad_id):
    """Return the tokens that transformers appends greedily to left-padded prompts."""
    mask_qs = torch.tensor(np.arange(token_qs.shape[1])[None] >= start_q[:, None]).long()
    settings = dict(do_sample=False, max_new_tokens=tokens, eos_token_id=list(eos_ids) or None, pad_token_id=pad_id)
    with torch.no_grad():
        out = model.generate(torch.tensor(token_qs), attention_mask=mask_qs, **settings)
    return out.numpy()[:, token_qs.shape[1] :]


def lengths(token_qt, eos_ids):
    """Return the number of tokens of each row, including its first end-of-sequence."""
    ended_qt = np.isin(token_qt, eos_ids)
    return np.where(ended_qt.any(1), ended_qt.argmax(1) + 1, token_qt.shape[1])


@pytest.mark.parametrize("name", SOME)
def test_greedy_tokens_equal_generate(name, tmp_path):
    """Prompts of different lengths, and two ids that end a completion, so that rows end at different tokens."""
    model = make_reference.make_model(FLAGS[name], seed=10)
    (token_qs, start_q), tokens = padded(PROMPTS, pad_id=0), 32
    free_qt = generate(model, token_qs, start_q, tokens=tokens, eos_ids=(), pad_id=0)
    assert free_qt.shape == (len(PROMPTS), tokens)
    pairs = itertools.product(free_qt.ravel().tolist(), repeat=2)
    # Two ids with which one row ends early and another late or never.
    eos_ids = next(pair for pair in pairs if min(lengths(free_qt, pair)) < 16 and 24 <= max(lengths(free_qt, pair)))
    want_qt = generate(model, token_qs, start_q, tokens=tokens, eos_ids=eos_ids, pad_id=0)
    config, params = read(model, tmp_path)
    got = sampler.sample(
        decoder.bind(config, params), sampler.Prompts(jnp.array(token_qs), jnp.array(start_q)), jax.random.key(0),
        group_size=1, max_new_tokens=tokens, temperature=0, stop_ids=eos_ids, pad_id=0,
    )  # fmt: skip
    np.testing.assert_array_equal(got.token_bt[:, : want_qt.shape[1]], want_qt)
    length_q = lengths(free_qt, eos_ids)
    np.testing.assert_array_equal(got.length_b, length_q)
    np.testing.assert_array_equal(got.is_truncated_b, ~np.isin(free_qt, eos_ids).any(1))


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_we_read_what_transformers_saves(shard_size, tmp_path):
    for name in SOME:
        model, inputs = make_reference.make_model(FLAGS[name], seed=3), make_reference.sample_inputs(seed=4)
        model.save_pretrained(tmp_path / name, max_shard_size=shard_size)
        assert (tmp_path / name / "model.safetensors").exists() == (shard_size == "1GB")
        config = hf_config.read_config(tmp_path / name)
        got_btv = logits(config, hf_weights.load(tmp_path / name, config), *inputs)
        np.testing.assert_allclose(got_btv, make_reference.logits_of(model, *inputs), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 20_000])
@pytest.mark.parametrize("name", [*FLAGS])
def test_transformers_reads_what_we_save(name, max_shard_bytes, tmp_path):
    model = make_reference.make_model(FLAGS[name], seed=11)
    config, params = read(model, tmp_path / "theirs")
    origin = read_origin(tmp_path / "theirs")
    saving = {"max_shard_bytes": max_shard_bytes, "eos_ids": (5, 6), "pad_id": 7, "origin": origin}
    hf_weights.save(params, config, tmp_path / "ours", **saving)
    assert (tmp_path / "ours" / "model.safetensors").exists() == (max_shard_bytes > 20_000)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    for param, want in model.state_dict().items():
        assert torch.equal(again.state_dict()[param], want), param
    assert type(again) is type(model) and again.config.dtype == torch.float32
    assert again.generation_config.eos_token_id == [5, 6] and again.generation_config.pad_token_id == 7
    inputs = make_reference.sample_inputs(seed=4)
    np.testing.assert_array_equal(make_reference.logits_of(again, *inputs), make_reference.logits_of(model, *inputs))


@pytest.mark.parametrize("name", SOME)
def test_bfloat16_folders_both_ways(name, tmp_path):
    """Stored in bfloat16, computed in float32: the same logits; loaded and saved in bfloat16: the same bits."""
    model, inputs = make_reference.make_model(FLAGS[name], seed=12).bfloat16(), make_reference.sample_inputs(seed=4)
    model.save_pretrained(tmp_path / "theirs")
    config = hf_config.read_config(tmp_path / "theirs")
    got_btv = logits(config, hf_weights.load(tmp_path / "theirs", config), *inputs)
    stored = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32)
    np.testing.assert_allclose(got_btv, make_reference.logits_of(stored, *inputs), atol=1e-4)
    narrow = dataclasses.replace(config, param_dtype="bfloat16")
    params = hf_weights.load(tmp_path / "theirs", narrow)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    hf_weights.save(params, narrow, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.dtype == torch.bfloat16
    for param, want in model.state_dict().items():
        assert torch.equal(again.state_dict()[param], want), param
