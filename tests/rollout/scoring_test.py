"""Answer likelihoods of a rollout: on its cache, without one, and written out; few shapes are compiled."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.models import decoder, sampler
from mig_jax.models.experts import ExpertsConfig
from mig_jax.policy.completions import parse_completion, parse_completions
from mig_jax.policy.encoding import bucket_size
from mig_jax.policy.generate import make_sampler
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.rollout.problem_set import open_source
from mig_jax.rollout.scoring import build_probes, make_likelihood_fn, stack_steps
from tests import tiny

GROUP = 4
SPELLED = [Problem(str(n), "q", "1.5", "number") for n in range(2)]
# Tokens that texts are padded to when they are written out, so that one program is compiled.
WRITTEN_WIDTH = 160


@pytest.fixture(scope="module")
def rollout():
    """Sample four responses to each of two problems with the quickstart's policy."""
    return roll_out()


def roll_out(**changes):
    """Return what `score` needs; `changes` are of the model's config."""
    config = tiny.get_quickstart(rollout__group_size=GROUP, reward__max_variants=2)
    policy = load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)
    if changes:
        shape = dataclasses.replace(policy.config, **changes)
        policy = dataclasses.replace(policy, config=shape, params=decoder.init_params(shape, jax.random.key(0)))
    problems = list(open_source(config, "chain:terms=7", split="test"))[:2]
    prompts = sharding.to_mesh(encode_prompts(policy, config, problems).prompts, policy.mesh)
    sample = make_sampler(policy, config.rollout, group_size=GROUP, temperature=1.0)
    completions = sample(policy.params, prompts, jax.random.key(0))
    return config, policy, problems, prompts, completions


def score(rollout, *, cache=True, max_steps=6, problems=None, **changes):
    config, policy, own_problems, prompts, completions = rollout
    w = tiny.change(config.copy_and_resolve_references(), changes).reward
    parsed = parse_completions(policy, completions, max_steps=max_steps, process_mask=w.process_mask)
    cuts, steps = stack_steps(parsed, max_steps=max_steps)
    probes = build_probes(policy, w, problems or own_problems, max_answer_tokens=6)
    likelihood = make_likelihood_fn(policy, w, chunk=16)
    if not cache:
        completions = completions._replace(cache=())
    return np.array(likelihood(policy.params, prompts, completions, cuts, probes)), steps, parsed


@pytest.fixture(scope="module")
def every(rollout):
    """Return ℓ after every step, and the steps."""
    return score(rollout)


@pytest.fixture(scope="module")
def spelled(rollout):
    """Return the same for an answer that has two variants, 1.5 and 3/2."""
    return score(rollout, problems=SPELLED)


def written_likelihood(policy, prompt, response, lead_in, answer, terminator="event"):
    """Return the mean log-prob of an answer with its ending, by a forward pass over the whole text for each ending."""
    encode = policy.tokenizer.encode
    context = [*prompt, *response, *encode(lead_in)]
    endings = [encode(policy.tokenizer.format.close)]
    if terminator == "event":  # the first token of each ending
        endings = [encode(space + policy.tokenizer.format.close)[:1] for space in ("", " ", "\n")]
    found = []
    for ending in endings:
        target = [*encode(answer), *ending]
        padding = WRITTEN_WIDTH - len(context + target)
        ids = jnp.array([[0] * padding + context + target])
        found.append(last_logprobs(policy.config, policy.params, ids, jnp.array([padding]), n=len(target)))
    return float(jnp.append(found[0][:-1], jax.nn.logsumexp(jnp.stack(found)[:, -1])).mean())


@functools.partial(jax.jit, static_argnums=0, static_argnames="n")
def last_logprobs(config, params, ids, start_b, *, n):
    """Return the log-probs of the last `n` ids of one row, which begins at `start_b`."""
    model = decoder.bind(config, params)
    positions, valid = sampler.row_positions(start_b, ids.shape[1])
    hidden, _ = model(ids[:, :-1], positions[:, :-1], valid[:, :-1])
    return rewards.token_logprobs(hidden[0, -n:], model.unembed_dv(), ids[0, -n:])[0]


@pytest.mark.parametrize("terminator", ["event", "tag"])
def test_likelihoods_equal_those_written_out(rollout, terminator):
    assert_written_out(rollout, terminator)


@pytest.mark.slow
@pytest.mark.parametrize("window", [4, 25])
def test_likelihoods_with_windows_equal_those_written_out(window):
    """As Gemma 3: a layer with a window and one without; it is shorter than a probe, or than the response."""
    rollout = roll_out(
        window=window, full_layers=(1,), window_rope_theta=100.0, qk_norm=True, post_norms=True, shifted_norms=True,
        scaled_embedding=True, activation="gelu_tanh",
    )  # fmt: skip
    ell_bk = assert_written_out_at_any_cut(rollout)
    config, policy, *rest = rollout
    wide = dataclasses.replace(policy, config=dataclasses.replace(policy.config, window=10**6))
    assert (np.abs(score_at((config, wide, *rest), ANY_CUTS) - ell_bk) > 1e-4).mean() > 0.9


@pytest.mark.slow
def test_likelihoods_with_experts_equal_those_written_out():
    """A token chooses the same experts alone and among all that are scored together."""
    assert_written_out_at_any_cut(
        roll_out(qk_norm=True, experts=ExpertsConfig(count=8, per_token=2, width=16, is_normalized=True))
    )


# Tokens before each cut of responses without steps, as random parameters write them.
ANY_CUTS = (1, 7, 30, 52)


def assert_written_out_at_any_cut(rollout):
    """Check two responses against one forward pass for each cut, and return ℓ of all."""
    _, policy, problems, prompts, completions = rollout
    ell_bk, lead_in = score_at(rollout, ANY_CUTS), policy.tokenizer.format.lead_in
    for row in (0, GROUP + 1):
        q = row // GROUP
        prompt = np.array(prompts.token_qs[q])[int(prompts.start_q[q]) :].tolist()
        response = np.array(completions.token_bt[row, : completions.length_b[row]]).tolist()
        assert len(response) > max(ANY_CUTS)
        texts = [([], f"<think>\n{lead_in}"), *((response[:cut], lead_in) for cut in ANY_CUTS)]
        want_k = [written_likelihood(policy, prompt, *text, problems[q].answer) for text in texts]
        np.testing.assert_allclose(ell_bk[row], want_k, atol=1e-5)
    return ell_bk


def score_at(rollout, cut_k):
    """Return ℓ of every response before and after so many of its tokens."""
    config, policy, problems, prompts, completions = rollout
    cut_bk = np.tile(np.array(cut_k), (len(completions.token_bt), 1))
    likelihood = make_likelihood_fn(policy, config.reward, chunk=16)
    probes = build_probes(policy, config.reward, problems, max_answer_tokens=6)
    cuts = rewards.Cuts(cut_bk, np.ones_like(cut_bk, bool))
    return np.array(likelihood(policy.params, prompts, completions, cuts, probes))


def assert_written_out(rollout, terminator):
    """Check that every probe equals one forward pass over its text, and that ℓ₀ is one number for a group."""
    _, policy, problems, prompts, completions = rollout
    ell_bk, steps, parsed = score(rollout, reward__max_variants=1, reward__terminator=terminator)
    assert ell_bk.shape == steps.valid_bk.shape
    for row in (0, 3, GROUP, GROUP + 1):
        q = row // GROUP
        prompt = np.array(prompts.token_qs[q])[int(prompts.start_q[q]) :].tolist()
        lead_in = policy.tokenizer.format.lead_in
        opened = written_likelihood(policy, prompt, [], f"<think>\n{lead_in}", problems[q].answer, terminator)
        assert ell_bk[row, 0] == pytest.approx(opened, abs=1e-4)
        for k, cut in enumerate(parsed[row].cuts, start=1):
            response = np.array(completions.token_bt[row, :cut]).tolist()
            expected = written_likelihood(policy, prompt, response, lead_in, problems[q].answer, terminator)
            assert ell_bk[row, k] == pytest.approx(expected, abs=1e-4)
    first_qg = ell_bk[:, 0].reshape(-1, GROUP)
    assert (first_qg == first_qg[:, :1]).all() and first_qg[0, 0] != first_qg[1, 0]


def test_likelihoods_need_no_cache(rollout, every):
    on_cache, steps, _ = every
    packed, *_ = score(rollout, cache=False)
    np.testing.assert_allclose(on_cache[steps.valid_bk], packed[steps.valid_bk], atol=1e-4)


def test_fewer_probes_are_a_choice_of_cuts(rollout, every):
    """With two probes, ℓ is that after the third and the sixth of six steps."""
    every, all_steps, parsed = every
    two, steps, _ = score(rollout, max_steps=2)
    for row, completion in enumerate(parsed):
        n = completion.n_steps
        chosen = [0, -(-n // 2), n] if n > 1 else list(range(n + 1))
        np.testing.assert_allclose(two[row, steps.valid_bk[row]], every[row, chosen], atol=1e-4)
        assert steps.count_bk[row].sum() == n == all_steps.count_bk[row].sum()
        assert steps.token_bk[row].sum() == all_steps.token_bk[row].sum()


@pytest.mark.parametrize(
    "change",
    [
        {"reward__terminator": "tag"},
        {"reward__over_tokens": "mean_prob"},
        pytest.param({"reward__over_tokens": "sum_logprob"}, marks=pytest.mark.slow),
        {"reward__over_spellings": "logsumexp"},
    ],
    ids=str,
)
def test_every_option_of_a_probe_matters(rollout, spelled, change):
    plain, steps, _ = spelled
    changed, *_ = score(rollout, problems=SPELLED, **change)
    assert (np.abs(plain - changed)[steps.valid_bk] > 1e-4).all()


def test_probes_are_only_as_large_as_needed(rollout):
    """Shapes follow the longest answer, the most variants and the most steps of a batch, in a few sizes."""
    config, policy, *_ = rollout
    tokenizer = policy.tokenizer

    def shapes(n_steps, answer, n_variants):
        text = "<think>\n" + "".join(f"### Step {n + 1}: 1+1=2\n" for n in range(n_steps)) + "</think>\n<answer>2"
        ids = tokenizer.encode(text)
        parsed = parse_completion(
            tokenizer, ids, is_truncated=True, max_steps=16, width=len(ids), process_mask="closing"
        )
        cuts, _ = stack_steps([parsed], max_steps=16)
        reward = tiny.change(config.copy_and_resolve_references(), {"reward__max_variants": n_variants}).reward
        probes = build_probes(policy, reward, [Problem("0", "q", answer, "number")], max_answer_tokens=16)
        return cuts.cut_k.shape[1], *probes.answers.scored_ay.shape[1:]

    closing = len(tokenizer.encode(tokenizer.format.close))
    assert shapes(3, "7", 1) == (4, 1, 4 + closing)
    assert shapes(9, "12345", 4) == (16, 2, 8 + closing)  # 12345 and 12,345
    found = {shapes(n, "9" * length, 4) for n in (0, 1, 2, 5, 7, 16, 40) for length in range(1, 9)}
    assert {k for k, *_ in found} == {1, 2, 8, 16} and len(found) <= 4 * 2 * 3
    assert [bucket_size(n, 12) for n in (0, 1, 3, 9, 12)] == [1, 1, 4, 12, 12]
