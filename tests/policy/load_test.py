"""Training and sampling compute the same log-probs, and the loss never holds [B, T, V]."""

import dataclasses
import functools
import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.learning import losses
from mig_jax.models import decoder, remat, sampler
from mig_jax.policy import load as policies
from mig_jax.policy.generate import Sampler
from mig_jax.policy.load import Policy, check_run_lengths, load_policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.policy.save import save_policy
from mig_jax.text import tokenizer as tokenizers
from tests import tiny
from tests.learning.toy_training import LOSS_CONFIG, random_batch

VOCAB, ROWS, WIDTH, CHUNK = 4999, 4, 24, 4


@pytest.fixture(scope="module")
def start():
    """The policy of the quickstart, on one device."""
    return load_policy(tiny.get_quickstart().model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@pytest.mark.parametrize("temperature", [pytest.param(1.0, marks=pytest.mark.slow), 0.8])
def test_sampler_and_trainer_logprobs_agree(start, temperature):
    prompt = start.tokenizer.chat_prompt([{"role": "user", "content": "Last digits of 7 +5 -3 *3 +8 -2 +6"}])
    prompts, starts = jnp.array([[0, 0, *prompt]]), jnp.array([2])
    sample = Sampler(start, kv_cache_chunks=1, group_size=6, max_new_tokens=74, temperature=temperature)
    completions = sample(start.params, sampler.Prompts(prompts, starts), jax.random.key(0))
    batch = random_batch()._replace(
        token_bs=jax.device_put(np.concatenate([np.repeat(prompts, 6, axis=0), completions.token_bt], axis=1)),
        start_b=jax.device_put(np.repeat(starts, 6)),
        full_mask_bt=jax.device_put(np.arange(74)[None] < np.asarray(completions.length_b)[:, None]),
    )
    logprobs = jax.jit(make_logprob_fn(start, temperature=temperature, chunk=32, need_entropy=True))
    logprob, entropy, _ = logprobs(start.params, batch)
    np.testing.assert_allclose(logprob, completions.logprob_bt, atol=1e-4)
    assert (np.asarray(entropy) >= 0).all() and np.sum(completions.logprob_bt) < -1


def test_undivided_width_is_warned_about(monkeypatch):
    warnings = []
    monkeypatch.setattr(policies.logging, "warning", lambda text, *values: warnings.append(text % values))
    for width in (16, 12):
        model = tiny.get_config(model__init__width=width).model
        policies.abstract_policy(model, sharding.make_mesh({"fsdp": 8}))
    assert [text[:60] for text in warnings] == ["mesh.fsdp=8 does not divide the model's width of 12, so ever"]


@pytest.mark.parametrize(("capability", "dtype", "warns"), [("7.5", "bfloat16", True), ("7.5", "float32", False),
                                                            ("8.0", "bfloat16", False)])  # fmt: skip
def test_bfloat16_on_a_gpu_without_units_is_warned_about(capability, dtype, warns, monkeypatch):
    warnings = []
    monkeypatch.setattr(policies.logging, "warning", lambda text, *values: warnings.append(text % values))
    device = SimpleNamespace(platform="gpu", device_kind="Tesla T4", compute_capability=capability)
    policies.warn_no_bfloat16(tiny.get_config(model__compute_dtype=dtype).model, device)
    start = "model.compute_dtype=bfloat16, but a gpu (Tesla T4, compute capability 7.5) has no bfloat16 units"
    assert [text.partition(":")[0] for text in warnings] == [start] * warns


def test_saved_policy_loads_as_it_was(start, tmp_path):
    config = tiny.get_quickstart(model__path=str(tmp_path))
    save_policy(start, start.params, str(tmp_path), config=config)
    again = load_policy(config.model, start.mesh, seed=1)
    assert again.config == start.config and again.tokenizer.eos_ids == start.tokenizer.eos_ids
    jax.tree.map(np.testing.assert_array_equal, again.params, start.params)
    assert repr(again) == f"<Policy {tmp_path}: 165,376 parameters, on 1 × cpu>"


def shorten(policy, max_positions):
    return dataclasses.replace(policy, config=dataclasses.replace(policy.config, max_positions=max_positions))


def test_longest_sequence_of_a_run_must_fit_the_positions(start):
    config = tiny.get_quickstart(data__max_prompt_tokens=30, rollout__max_new_tokens=20)
    check_run_lengths(shorten(start, 50), config)
    with pytest.raises(UserError) as refused:
        check_run_lengths(shorten(start, 49), config)
    assert str(refused.value) == (
        "data.max_prompt_tokens=30 plus rollout.max_new_tokens=20 is 50 tokens, but the model has only 49 positions "
        "(max_position_embeddings in its config.json, context_length in a GGUF file): lower one of the two"
    )


def test_parameters_that_are_not_finite_are_not_saved(start, tmp_path):
    norm = np.array(start.params["norm"])
    norm[3] = np.nan
    params = start.params | {"norm": jax.device_put(norm, start.params["norm"].sharding)}
    with pytest.raises(UserError, match="are not finite: norm$"):
        save_policy(start, params, str(tmp_path / "model"), config=tiny.get_quickstart())
    assert not (tmp_path / "model").exists()


def test_parameters_that_are_not_finite_are_not_loaded(start, tmp_path):
    """On eight devices; a NaN in one shard, and one that is everywhere."""
    config = tiny.get_quickstart(model__path=str(tmp_path))
    save_policy(start, start.params, str(tmp_path), config=config)
    tensors = dict(safetensors.load_file(tmp_path / "model.safetensors"))
    tensors["model.embed_tokens.weight"][-1, -1] = np.inf
    tensors["model.norm.weight"][0] = np.nan
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"{tmp_path} cannot be used: it has NaN or infinity in embedding, norm$"):
        load_policy(config.model, sharding.make_mesh({"fsdp": 8}), seed=0)


def test_tokenizer_is_not_taken_from_a_folder_nearby(start, tmp_path, monkeypatch):
    """A model without tokenizer files is refused, though the current folder has a run with one."""
    config = tiny.get_quickstart(model__path=str(tmp_path / "mine"))
    for folder in ("mine", "model"):
        save_policy(start, start.params, str(tmp_path / folder), config=config)
    (tmp_path / "mine" / "tokenizer.json").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="mine has no tokenizer.json"):
        load_policy(config.model, start.mesh, seed=0)
    config.model.tokenizer = str(tmp_path)  # the workdir of a run
    assert load_policy(config.model, start.mesh, seed=0).tokenizer.vocab_size == start.tokenizer.vocab_size


def test_named_end_of_sequence_reaches_the_tokenizer(start, tmp_path):
    start.tokenizer.save(tmp_path)
    config = tiny.get_config(model__tokenizer=str(tmp_path), model__eos="<|endoftext|> !")
    eos_ids = load_policy(config.model, start.mesh, seed=0).tokenizer.eos_ids
    assert eos_ids == (*start.tokenizer.eos_ids, *map(start.tokenizer.token_id, ("<|endoftext|>", "!")))
    with pytest.raises(UserError, match="model.eos='!': completions of the character tokenizer end with"):
        load_policy(tiny.get_config(model__eos="!").model, start.mesh, seed=0)


@pytest.mark.slow
def test_adapters_keep_what_the_base_says_about_generation(start, tmp_path):
    """As Llama 3.2, with three ids that end completions and no padding; in the folder of adapters and merged."""
    base, adapters, merged = (str(tmp_path / name) for name in ("base", "adapters", "merged"))
    config = tiny.get_config()
    random = load_policy(config.model, start.mesh, seed=0)
    save_policy(random, random.params, base, config=config)
    generation = {"eos_token_id": [5, 6, 7], "pad_token_id": None, "temperature": 0.6, "top_p": 0.9}
    (tmp_path / "base" / "generation_config.json").write_text(json.dumps(generation))
    config = tiny.get_config(model__path=base, model__tokenizer="", model__lora__rank=2, model__lora__save="adapter")
    policy = load_policy(config.model, start.mesh, seed=0)
    save_policy(policy, policy.params, adapters, config=config)
    config = tiny.get_config(model__path=adapters, model__tokenizer="")
    again = load_policy(config.model, start.mesh, seed=0)
    save_policy(again, again.params, merged, config=config)
    eos_ids = start.tokenizer.eos_ids + (5, 6, 7)
    for folder in (adapters, merged):
        loaded = tokenizers.load(folder)
        assert sorted(loaded.eos_ids) == sorted({*eos_ids})
        written = json.loads((tmp_path / folder / "generation_config.json").read_text())
        assert {key: written[key] for key in ("temperature", "top_p")} == {"temperature": 0.6, "top_p": 0.9}
    assert again.tokenizer.eos_ids == policy.tokenizer.eos_ids


def test_compute_dtype_and_remat_reach_the_model(start):
    config = tiny.get_quickstart(model__compute_dtype="bfloat16", model__remat="layer")
    policy = load_policy(config.model, start.mesh, seed=0)
    assert policy.config.dtype == "bfloat16" and policy.config.remat == "layer"
    assert decoder.bind(policy.config, policy.params).unembed_dv().dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(policy.params)} == {jnp.dtype("float32")}
    assert start.config.remat == "matmuls"  # the default on CPUs
    assert remat.default_policy(SimpleNamespace(platform="tpu")) == "none"


def test_loss_and_gradient_never_hold_every_logit():
    """Of all arrays in the program of the gradient, none is as large as [B, T, V]; in the plain one some are."""
    config = decoder.DecoderConfig(vocab_size=VOCAB, width=8, layers=1, heads=1, kv_heads=1, head_size=8, mlp_width=8)
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    policy = Policy(tokenizers.build_character_tokenizer(), config, mesh, decoder.abstract_params(config))
    assert largest_array(policy, chunk=CHUNK) < ROWS * WIDTH * VOCAB
    assert largest_array(policy, chunk=ROWS * WIDTH) >= ROWS * WIDTH * VOCAB


def largest_array(policy, *, chunk):
    batch = random_batch(rows=ROWS, width=WIDTH)
    logprobs = make_logprob_fn(policy, temperature=1.0, chunk=chunk, need_sft=True, need_entropy=True)

    def loss(params):
        token_weights = losses.stream_token_weights(batch, aggregate="responses")
        return losses.total_loss(*logprobs(params, batch), batch, token_weights, LOSS_CONFIG)[0]

    return max(sizes(jax.make_jaxpr(jax.grad(loss))(policy.params).jaxpr))


def sizes(jaxpr):
    """The sizes of all arrays in a program, those of its loops included."""
    for equation in jaxpr.eqns:
        yield from (math.prod(v.aval.shape) for v in equation.outvars)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = value.jaxpr if hasattr(value, "jaxpr") else value
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def test_logprob_gradient_is_the_same_at_any_chunk(start):
    batch = random_batch()._replace(token_bs=jax.device_put(np.arange(40, 72, dtype=np.int32).reshape(4, 8)))

    def gradient(chunk):
        logprobs = make_logprob_fn(start, temperature=1.0, chunk=chunk, need_sft=False)
        return jax.jit(jax.grad(lambda params: logprobs(params, batch)[0].sum()))(start.params)

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), gradient(2), gradient(128))
