"""The numpy twins give the results of the jax functions, and need no jax."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import numpy_twins

GROUP, STEPS, VARIANTS, TOKENS = 4, 5, 3, 4


def random_group(seed):
    rng = np.random.default_rng(seed)
    n_steps = rng.integers(0, STEPS + 1, (GROUP, 1))
    return rewards.Group(
        rng.normal(-3, 1.5, (GROUP, STEPS + 1)).astype(np.float32),
        np.arange(STEPS + 1) <= n_steps,
        rng.integers(1, 4, (GROUP, STEPS)),
        rng.integers(1, 30, (GROUP, STEPS)),
        rng.random(GROUP) < 0.5,
    )


@pytest.mark.parametrize("name", rewards.CREDITS)
@pytest.mark.parametrize(
    "args",
    [
        {},
        {"step_price": 0.2, "excess_step_price": 0.3, "gate": "correct"},
        {"gate": "kept", "gate_tolerance": 0.5},
    ],
)
def test_credit(name, args):
    own = {"threshold": 0.3, "drawdown": 0.4} if name == "watermark" and args else {}
    theirs, ours = jax.jit(rewards.make_credit(name, **args, **own)), numpy_twins.make_credit(name, **args, **own)
    for seed in range(8):
        group = random_group(seed)
        for got, want in zip(ours(group), theirs(jax.tree.map(np.asarray, group)), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_watermark(threshold):
    for seed in range(8):
        group = random_group(seed)
        for function in ("watermark_gains", "watermark_falls"):
            got = getattr(numpy_twins, function)(group.ell_gk, group.valid_gk, threshold=threshold)
            one = getattr(rewards, function)
            want = jax.vmap(functools.partial(one, threshold=threshold))(*group[:2])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


@pytest.mark.parametrize("over_tokens", rewards.OVER_TOKENS)
@pytest.mark.parametrize("over_spellings", rewards.OVER_SPELLINGS)
def test_answer_likelihood(over_tokens, over_spellings):
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        logprob_kay = -rng.exponential(2, (STEPS + 1, VARIANTS, TOKENS)).astype(np.float32)
        scored_ay = np.arange(TOKENS) < rng.integers(0, TOKENS + 1, (VARIANTS, 1))
        got = numpy_twins.answer_likelihood(logprob_kay, scored_ay, **options)
        np.testing.assert_allclose(got, rewards.answer_likelihood(logprob_kay, scored_ay, **options), atol=1e-6)


def test_wrong_arguments_have_the_messages_of_jax():
    for name, args in [("watermarks", {}), ("final", {"drawdown": 0.5}), ("watermark", {"gate": "right"})]:
        with pytest.raises(ValueError) as want:
            rewards.make_credit(name, **args)
        with pytest.raises(ValueError) as got:
            numpy_twins.make_credit(name, **args)
        assert str(got.value) == str(want.value)
    with pytest.raises(ValueError, match="unknown over_tokens 'mean'; choose one of mean_logprob"):
        numpy_twins.answer_likelihood(np.zeros((1, 1, 1)), np.ones((1, 1), bool), over_tokens="mean")


def test_no_jax_is_imported():
    code = (
        "import sys; from mig_jax.rewards import lay_tree, numpy_twins, pack_answers, pairs_likelihood, probe_pairs; "
        "numpy_twins.make_credit('watermark'); print('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
