"""Packed probes equal a loop with one forward pass for each prefix and variant, with and without a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import probes
from tests.rewards import toy_model

LEAD_IN, CLOSING = (3, 4), (5, 6)
# Row 0: prompt starts at slot 1, three steps. Row 1: no padding, one step.
TOKENS = jnp.array([[0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0], [7, 7, 8, 16, 17, 18, 1, 0, 0, 0, 0]])
START, END = (1, 0), (10, 7)
CUTS = ((3, 5, 8, 10), (3, 6))
VARIANTS = (((19,), (20, 21, 22), (1, 2)), ((2, 2),))


def loop_likelihood(forward, unembed, row):
    """Return ℓ_k with one sequence for every prefix and variant."""
    slots = 20  # one shape, so that it compiles once; padding on the right has no effect
    valid, positions = jnp.ones((1, slots), bool), jnp.arange(slots)[None]
    ell_k = []
    for cut in CUTS[row]:
        ells = []
        for variant in VARIANTS[row]:
            prefix = TOKENS[row, START[row] : cut].tolist() + list(LEAD_IN)
            tokens = prefix + list(variant) + list(CLOSING)
            padded = jnp.array(tokens + [0] * (slots - len(tokens)))[None]
            logprobs = np.array(jax.nn.log_softmax(forward(padded, positions, valid, ())[0][0] @ unembed))
            ells.append(np.mean([logprobs[t - 1, tokens[t]] for t in range(len(prefix), len(tokens))]))
        ell_k.append(max(ells))
    return np.array(ell_k)


@pytest.fixture(scope="module")
def packed():
    answers = [rewards.pack_answers(LEAD_IN, variants, CLOSING, max_variants=3, max_tokens=4) for variants in VARIANTS]
    cut_bk = jnp.array([cuts + (1,) * (4 - len(cuts)) for cuts in CUTS])
    valid_bk = jnp.array([[k < len(cuts) for k in range(4)] for cuts in CUTS])
    slot = jnp.arange(TOKENS.shape[1])[None]
    start, end = jnp.array(START)[:, None], jnp.array(END)[:, None]
    trunk = rewards.Trunk(position_s=jnp.maximum(slot - start, 0), valid_s=(slot >= start) & (slot < end))
    return trunk, rewards.Cuts(cut_bk, valid_bk), jax.tree.map(lambda *xs: jnp.stack(xs), *answers)


@pytest.mark.parametrize("seed", range(3))
def test_packed_equals_loop(packed, seed):
    forward, unembed = toy_model.make_forward(seed)
    trunk, cuts, answers = packed
    ell_bk, logprob_bs = rewards.score_packed(forward, unembed, TOKENS, trunk, cuts, answers, chunk=5)

    hidden, cache = forward(TOKENS, trunk.position_s, trunk.valid_s, ())
    ell_on_cache_bk = rewards.score_on_cache(forward, unembed, (cache,), trunk, cuts, answers, chunk=7)
    for row in range(2):
        expected = loop_likelihood(jax.jit(forward), unembed, row)
        np.testing.assert_allclose(ell_bk[row, : len(expected)], expected, atol=1e-5)
        np.testing.assert_allclose(ell_on_cache_bk[row, : len(expected)], expected, atol=1e-5)
        plain = np.array(jax.nn.log_softmax(hidden[row] @ unembed))
        own = [plain[s - 1, TOKENS[row, s]] for s in range(START[row] + 1, END[row])]
        np.testing.assert_allclose(logprob_bs[row, START[row] + 1 : END[row]], own, atol=1e-5)


def test_tokens_after_the_cut_have_no_effect(packed):
    """Changing the trunk after cut k leaves ℓ_0 … ℓ_k unchanged, bit for bit."""
    forward, unembed = toy_model.make_forward()
    before, _ = rewards.score_packed(forward, unembed, TOKENS, *packed)
    after, _ = rewards.score_packed(forward, unembed, TOKENS.at[0, 5:].set(1), *packed)
    np.testing.assert_array_equal(before[0, :2], after[0, :2])
    assert (before[0, 2:] != after[0, 2:]).all()


def test_order_of_variants_has_no_effect(packed):
    forward, unembed = toy_model.make_forward()
    trunk, cuts, answers = packed
    ell, _ = rewards.score_packed(forward, unembed, TOKENS, trunk, cuts, answers)
    reversed_answers = jax.tree.map(lambda x: x[:, ::-1], answers)
    reversed_ell, _ = rewards.score_packed(forward, unembed, TOKENS, trunk, cuts, reversed_answers)
    np.testing.assert_allclose(ell, reversed_ell, atol=1e-6)


def test_scores_have_no_gradient(packed):
    forward, unembed = toy_model.make_forward()

    def total(unembed):
        return sum(x.sum() for x in rewards.score_packed(forward, unembed, TOKENS, *packed))

    assert (jax.grad(total)(unembed) == 0).all()


def test_mask_of_leaves_is_the_one_drawn_in_the_docstring():
    trunk = rewards.Trunk(jnp.arange(4), jnp.ones(4, bool))
    leaves = probes.build_leaves(trunk, rewards.Cuts(jnp.array([2, 3]), jnp.ones(2, bool)), build_one_variant(width=3))
    rows = [line.split("│")[1] for line in probes.__doc__.splitlines() if "│ x" in line]
    drawn = [[mark == "x" for mark in row.split()] for row in rows]
    np.testing.assert_array_equal(jnp.repeat(leaves.visible_rs, 3, axis=0), drawn)
    np.testing.assert_array_equal(leaves.position_rp, [[2, 3, 4], [3, 4, 5]])


def test_padding_of_the_trunk_is_not_visible():
    trunk = rewards.Trunk(jnp.arange(3), jnp.array([False, True, True]))
    leaves = probes.build_leaves(trunk, rewards.Cuts(jnp.array([3]), jnp.ones(1, bool)), build_one_variant(width=1))
    np.testing.assert_array_equal(leaves.visible_rs, [[False, True, True]])


def test_leaves_continue_from_the_greatest_position():
    """On every axis of M-RoPE, after an image whose last token has a smaller position, and after padding."""
    position_sx = jnp.array([[0, 0, 0], [1, 1, 1], [1, 3, 1], [1, 2, 2], [9, 9, 9]])
    trunk = rewards.Trunk(position_sx, jnp.array([True, True, True, True, False]))
    cuts = rewards.Cuts(jnp.array([2, 4, 5]), jnp.ones(3, bool))
    leaves = probes.build_leaves(trunk, cuts, build_one_variant(width=2))
    expected = jnp.repeat(jnp.array([[2, 3], [4, 5], [4, 5]])[..., None], 3, axis=-1)
    np.testing.assert_array_equal(leaves.position_rp, expected)


def build_one_variant(width):
    return rewards.Answers(jnp.zeros((1, width), jnp.int32), jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))


def test_pack_answers_leaves_out_variants_that_do_not_fit():
    answers = rewards.pack_answers(LEAD_IN, [(1, 1, 1), (7,), (8,), (9,)], CLOSING, max_variants=2, max_tokens=2)
    np.testing.assert_array_equal(answers.token_ap, [[3, 4, 7, 5, 0], [3, 4, 8, 5, 0]])
    np.testing.assert_array_equal(answers.target_ay, [[7, 5, 6, 0], [8, 5, 6, 0]])
    np.testing.assert_array_equal(answers.scored_ay, [[True, True, True, False]] * 2)


def test_pack_answers_raises_if_no_variant_fits():
    with pytest.raises(ValueError, match=r"answers of \[3\] tokens where 1 to 2 fit"):
        rewards.pack_answers(LEAD_IN, [(1, 1, 1)], CLOSING, max_variants=2, max_tokens=2)


def test_unbatched_cuts_raise(packed):
    forward, unembed = toy_model.make_forward()
    with pytest.raises(AssertionError, match="leading axis B"):
        rewards.score_packed(forward, unembed, TOKENS[:1], *jax.tree.map(lambda x: x[0], packed))
