"""A vision-language model end to end: rollout, probes, update and score, its vision tower frozen or trained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import commands, rewards
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.learning.train_step import partition
from mig_jax.models import decoder, leaving, sampler
from mig_jax.policy import encoding
from mig_jax.policy.generate import Sampler, make_encode_images_fn
from mig_jax.policy.load import load_policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.policy.prompts import encode_prompts
from mig_jax.records import metrics, transcripts
from mig_jax.rollout.problem_set import open_eval_problems, open_train_problems, prompt_rejection_reason
from mig_jax.rollout.rollout import Rollout
from mig_jax.text.answers.verifier import Verifier
from mig_jax.trainer import train
from mig_jax.trainer.update import build_update
from tests import tiny

CONFIG = tiny.get_scenes()


@pytest.fixture(scope="module")
def scenes():
    """Return the function that makes a config, as `tiny.get_scenes`."""
    return tiny.get_scenes


@pytest.fixture(scope="module")
def policy(scenes):
    return load_policy(scenes().model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@pytest.fixture(scope="module")
def problems(policy):
    ((chosen,), _) = open_train_problems(policy, CONFIG, need_solution=False)
    return chosen[:4]


@pytest.fixture(scope="module")
def rollout(policy, problems):
    """Return prompts with image features, and three completions of each."""
    prompts = make_encode_images_fn(policy)(policy.params, encode_prompts(policy, CONFIG, problems).prompts)
    sample = Sampler(policy, kv_cache_chunks=1, group_size=3, max_new_tokens=20, temperature=0.9)
    return prompts, sample(policy.params, prompts, jax.random.key(0))


def batch_of(prompts, completions):
    """Return a batch of the samples with arbitrary advantages."""
    mask_bt = np.arange(completions.token_bt.shape[1])[None] < np.asarray(completions.length_b)[:, None]
    rows = len(completions.length_b)
    group_size = rows // len(prompts.start_q)
    advantage_bt = np.where(mask_bt, np.linspace(-1, 1, rows, dtype=np.float32)[:, None], np.float32(0))
    batch = Batch(
        token_bs=np.concatenate([np.repeat(prompts.token_qs, group_size, axis=0), completions.token_bt], axis=1),
        start_b=np.repeat(prompts.start_q, group_size),
        full_mask_bt=mask_bt,
        cot_mask_bt=mask_bt,
        old_logprob_bt=completions.logprob_bt,
        ref_logprob_bt=None,
        process_advantage_bt=advantage_bt,
        outcome_advantage_bt=advantage_bt,
        gate_b=np.arange(rows) % 2 == 0,
        images=prompts.images,
    )
    return jax.device_put(batch)


def test_the_samplers_logprobs_are_the_trainers(policy, rollout):
    """One token at a time on a cache, or all at once: the same images at the same places."""
    batch = batch_of(*rollout)
    logprobs = jax.jit(make_logprob_fn(policy, temperature=0.9, chunk=8))
    logprob_bt = logprobs(policy.params, batch)[0]
    np.testing.assert_allclose(np.where(batch.full_mask_bt, logprob_bt, 0), batch.old_logprob_bt, atol=1e-4)


@pytest.mark.slow  # policy/leaving_test.py has the same without images
def test_rows_with_images_leave(policy, rollout, monkeypatch):
    """Those that go on without the others take their positions with them, and the same tokens come out."""
    prompts, _ = rollout
    stops = tuple(range(0, policy.tokenizer.vocab_size, 4))
    short = dataclasses.replace(policy, tokenizer=dataclasses.replace(policy.tokenizer, eos_ids=stops))
    completions = []
    for sizes in ((), (6, 3)):
        monkeypatch.setattr(leaving, "subset_sizes", lambda rows, sizes=sizes: sizes)
        sample = Sampler(short, kv_cache_chunks=1, group_size=3, max_new_tokens=20, temperature=0.9)
        completions.append(sample(policy.params, prompts, jax.random.key(0)))
    together, left = completions
    assert sample.decode._cache_size() > 1
    np.testing.assert_array_equal(left.token_bt, together.token_bt)
    np.testing.assert_allclose(left.logprob_bt, together.logprob_bt, atol=1e-5)


def test_what_is_seen_matters(policy, rollout):
    """With the images of the other questions the same completions are worth something else."""
    batch = batch_of(*rollout)
    logprobs = jax.jit(make_logprob_fn(policy, temperature=1.0, chunk=8))
    swapped = batch._replace(
        images=batch.images._replace(feature_qid=jax.device_put(np.asarray(batch.images.feature_qid)[::-1]))
    )
    found, other = (np.asarray(logprobs(policy.params, x)[0]) for x in (batch, swapped))
    assert np.abs(found - other).max() > 1e-3


def test_features_are_computed_once(policy, problems):
    """With a frozen tower no pixels go on to the update; what was there already is not looked at again."""
    prompts = encode_prompts(policy, CONFIG, problems).prompts
    looked = make_encode_images_fn(policy)(policy.params, prompts)
    assert looked.images.pixels is None and looked.images.feature_qid.shape == (4, 4, 16)
    sample = Sampler(policy, kv_cache_chunks=1, group_size=1, max_new_tokens=4, temperature=0.0)
    blank = looked._replace(images=looked.images._replace(feature_qid=jnp.zeros_like(looked.images.feature_qid)))
    drawn, again, unseen = (sample(policy.params, p, jax.random.key(0)) for p in (looked, prompts, blank))
    np.testing.assert_allclose(drawn.logprob_bt, again.logprob_bt, atol=1e-5)
    assert np.abs(np.asarray(drawn.logprob_bt) - unseen.logprob_bt).max() > 1e-3


def test_probes_equal_prompts_written_out(policy, rollout):
    """A probe on the rollout's cache scores what its text scores after the prompt, at M-RoPE positions."""
    prompts, completions = rollout
    tokenizer, width = policy.tokenizer, prompts.token_qs.shape[1]
    answers = encoding.pack_probes(
        tokenizer,
        [Problem(a, "q", a) for a in ("3", "no", "12", "same")],
        max_variants=1,
        max_tokens=4,
        terminator="tag",
    )
    answers = jax.tree.map(lambda x: jax.device_put(np.repeat(x, 3, axis=0)), answers)
    cut_bk = jnp.array([[0, 2, 5]] * 12)
    position_bs, valid_bs = sampler.row_positions(jnp.repeat(prompts.start_q, 3), width + 20, prompts.images)
    model = decoder.bind(policy.config, policy.params)
    ell_bk = jax.jit(functools.partial(rewards.score_on_cache, model))(
        model.unembed_dv(),
        completions.cache,
        rewards.Trunk(position_bs, valid_bs),
        rewards.Cuts(cut_bk + width, jnp.ones_like(cut_bk, bool)),
        answers,
    )
    logprobs = jax.jit(make_logprob_fn(policy, temperature=1.0, chunk=64))
    target_bay = answers.target_aye[..., 0]
    lead_in = len(answers.token_ap[0, 0]) + 1 - target_bay.shape[-1]
    for k, cut in enumerate((0, 2, 5)):
        # The text in full: the completion up to the cut, the lead-in, the answer and its closing tag.
        written = jnp.concatenate(
            [completions.token_bt[:, :cut], answers.token_ap[:, 0, :lead_in], target_bay[:, 0]], axis=1
        )
        mask_bt = jnp.pad(answers.scored_ay[:, 0], ((0, 0), (cut + lead_in, 0)))
        full = completions._replace(token_bt=written, logprob_bt=jnp.zeros(written.shape))
        logprob_bt, *_ = logprobs(policy.params, batch_of(prompts, full)._replace(full_mask_bt=mask_bt))
        expected = jnp.where(mask_bt, logprob_bt, 0).sum(1) / mask_bt.sum(1)
        np.testing.assert_allclose(ell_bk[:, k], expected, atol=1e-4)


@pytest.mark.slow
def test_micro_batches_with_images(problems, scenes):
    """Rows stay with the images of their prompts: the update is the same, the vision tower's too."""
    results = []
    for microbatches in (1, 2):
        config = scenes(model__vision__freeze=False, optimizer__microbatches=microbatches)
        policy = load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)
        start = jax.device_get(policy.params)
        prompts = make_encode_images_fn(policy)(policy.params, encode_prompts(policy, config, problems).prompts)
        sample = Sampler(policy, kv_cache_chunks=1, group_size=2, max_new_tokens=6, temperature=1.0)
        completions = sample(policy.params, prompts, jax.random.key(0))
        state, update = build_update(policy, config, "train")
        state, (numbers,) = update(state, batch_of(prompts, completions))
        results.append((jax.device_get(state), float(numbers["gradient/norm"])))
    (state, norm), (in_parts, norm_in_parts) = results
    assert norm == pytest.approx(norm_in_parts, rel=1e-4) and norm > 0
    for a, b in zip(jax.tree.leaves(state.opt_state), jax.tree.leaves(in_parts.opt_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), start, state.params)["vision"]))


def test_frozen_vision_tower_is_not_trained(policy):
    trained, frozen = partition(policy.params, policy.is_trainable)
    assert not jax.tree.leaves(trained["vision"]) and not jax.tree.leaves(frozen["layers"])
    assert dataclasses.replace(policy, freeze_vision=False).is_trainable("vision/patch_embedding")


@pytest.mark.slow
def test_run_from_sft_stage_to_score(tmp_path, scenes, monkeypatch, capsys):
    """A run writes its images, resumes without repeating the SFT stage, and its transcripts can be scored."""
    first = jax.devices()[:1]
    config = scenes(steps=1, sft__steps=2, sft__data_size=32, model__vision__freeze=False, log__transcripts_every=1)
    train.run(config, str(tmp_path), mode="train", devices=first)
    assert "start → after SFT → start of RL → end" in capsys.readouterr().out
    file = tmp_path / "transcripts" / "step_000001.jsonl"
    written = transcripts.read_transcripts(str(file))
    assert all(len(t.images) == 1 for t in written) and list((tmp_path / "transcripts" / "images").glob("*.png"))
    assert (tmp_path / "model" / "preprocessor_config.json").exists()
    sft_metrics = (tmp_path / "sft" / "metrics.jsonl").read_bytes()
    described, rows = metrics.read_metrics(str(tmp_path / "sft"))
    assert [row["step"] for row in rows] == [0, 1, 2, 2] and described["data"]["train_size"] == 32

    config.steps = 2
    train.run(config, str(tmp_path), mode="train", devices=first)
    assert [row["step"] for row in metrics.read_metrics(str(tmp_path))[1]] == [0, 1, 1, 2, 2]
    assert (tmp_path / "sft" / "metrics.jsonl").read_bytes() == sft_metrics

    # The policy of the first rollout, found by its workdir; scored by packed passes, without the rollout's cache.
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "devices", lambda: first)
    config.model.path, config.model.tokenizer = str(tmp_path / "sft"), ""
    commands.score(config, str(file), str(tmp_path / "scores"))
    for old, new in zip(written, transcripts.read_transcripts(str(tmp_path / "scores" / "scores.jsonl")), strict=True):
        np.testing.assert_allclose(old.ell_k, new.ell_k, atol=1e-3)


def test_unusable_images_are_rejected(policy):
    config = tiny.get_scenes()
    with pytest.raises(ValueError, match="problem 7: .*image 1"):
        prompt_rejection_reason(policy, config, Problem("7", "What?", "1", images=(b"no image",)))
    blind = load_policy(tiny.get_config().model, policy.mesh, seed=0)
    problem = open_eval_problems(policy, config)[0]
    with pytest.raises(ValueError, match="read without a vision tower"):
        prompt_rejection_reason(blind, config, problem)
    config.model.vision.max_patches = 8
    assert "more than 8 image patches" in prompt_rejection_reason(policy, config, problem)


@pytest.mark.slow
def test_rollout_returns_batch_metrics_and_transcripts(policy, problems):
    with Verifier(workers=1) as verifier:
        result = Rollout(policy, CONFIG, verifier)(
            policy.params, encode_prompts(policy, CONFIG, problems), jax.random.key(0)
        )
    assert result.batch.images.index_qs.shape[0] == 4 and result.batch.token_bs.shape[0] == 8
    assert result.metrics["ell/first"] < 0 and result.transcripts[0].images == problems[0].images
