"""Packed probes equal a loop with one forward pass for each prefix and variant, with and without a cache."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import probes
from tests.rewards import toy_model

LEAD_IN = (3, 4)
CLOSINGS = ((5, 6), (18, 5, 6), (5, 17), (2,))  # the first ids of all endings are 5, 18 and 2
# Row 0: prompt starts at slot 1, three steps. Row 1: no padding, one step.
# Every option once; the other combinations are slow.
FAST_OPTIONS = [("max", "mean_prob", "event"), ("logsumexp", "sum_logprob", "tag")]
TOKENS = jnp.array([[0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0], [7, 7, 8, 16, 17, 18, 1, 0, 0, 0, 0]])
START, END = (1, 0), (10, 7)
CUTS = ((3, 5, 8, 10), (3, 6))
VARIANTS = (((19,), (20, 21, 22), (1, 2)), ((2, 2),))
PREFIXES = (((7, 1, 9), (), (16,), (2, 11)), ((), (8, 12)))
NO_PREFIXES = (((),) * 4, ((),) * 2)
SCORES = {
    "mean_logprob": np.mean,
    "mean_prob": lambda logprobs: np.log(np.mean(np.exp(logprobs))),
    "sum_logprob": np.sum,
    "max": np.max,
    "logsumexp": lambda ells: np.log(np.sum(np.exp(ells))),
}

# Compiled: as single operations, each test would compile hundreds.
STATIC = ("forward", "chunk", "over_tokens", "over_spellings", "share_lead_in")
score_packed = jax.jit(rewards.score_packed, static_argnames=STATIC)
score_on_cache = jax.jit(rewards.score_on_cache, static_argnames=STATIC)
build_branches = jax.jit(probes.build_branches, static_argnames="share_lead_in")


def plain_likelihood(
    forward, unembed, row, prefixes=NO_PREFIXES, terminator="tag", over_tokens="mean_logprob", over_spellings="max"
):
    """Return ℓ_k with one sequence for every cut, its prefix, and every variant, and with every softmax written out."""
    slots = 20  # one shape, so that it compiles once; padding on the right has no effect
    valid, positions = np.ones((1, slots), bool), np.arange(slots)[None]
    ell_k = []
    for cut, prefix in zip(CUTS[row], prefixes[row], strict=True):
        ells = []
        for variant in VARIANTS[row]:
            context = np.asarray(TOKENS)[row, START[row] : cut].tolist() + list(prefix) + list(LEAD_IN)
            tokens = context + list(variant) + list(CLOSINGS[0])
            padded = np.array(tokens + [0] * (slots - len(tokens)))[None]
            logits = np.array(forward(padded, positions, valid, ())[0][0] @ unembed, np.float64)
            prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            ending = len(context) + len(variant)
            probs = [prob[t - 1, tokens[t]] for t in range(len(context), ending)]
            if terminator == "tag":
                probs += [prob[t - 1, tokens[t]] for t in range(ending, len(tokens))]
            else:
                probs += [prob[ending - 1, 5] + prob[ending - 1, 18] + prob[ending - 1, 2]]
            ells.append(SCORES[over_tokens](np.log(probs)))
        ell_k.append(SCORES[over_spellings](ells))
    return np.array(ell_k)


def pack(prefixes=None, terminator="tag", **sizes):
    """Return trunk, cuts and answers of both rows; cuts of row 1 are padded."""
    sizes = {"max_variants": 3, "max_tokens": 4} | sizes
    answers = [rewards.pack_answers(LEAD_IN, v, CLOSINGS, terminator=terminator, **sizes) for v in VARIANTS]
    cut_bk = np.array([cuts + (1,) * (4 - len(cuts)) for cuts in CUTS])
    valid_bk = np.array([[k < len(cuts) for k in range(4)] for cuts in CUTS])
    cuts = rewards.Cuts(cut_bk, valid_bk)
    if prefixes:
        rows = [row + ((),) * (4 - len(row)) for row in prefixes]
        ids = np.array([[ids + (22,) * (4 - len(ids)) for ids in row] for row in rows])
        cuts = cuts._replace(prefix_kx=ids, prefix_length_k=np.array([[len(ids) for ids in row] for row in rows]))
    slot = np.arange(TOKENS.shape[1])[None]
    start, end = np.array(START)[:, None], np.array(END)[:, None]
    trunk = rewards.Trunk(position_s=np.maximum(slot - start, 0), valid_s=(slot >= start) & (slot < end))
    return trunk, cuts, jax.tree.map(lambda *xs: np.stack(xs), *answers)


@pytest.fixture(scope="module")
def packed():
    return pack()


def test_endings_of_the_reference_are_those_of_the_constants():
    assert {ids[0] for ids in CLOSINGS} == {5, 18, 2}


def assert_equals_loop(ell_bk, forward, unembed, **options):
    forward = jax.jit(forward)
    for row in range(2):
        expected = plain_likelihood(forward, unembed, row, **options)
        np.testing.assert_allclose(ell_bk[row, : len(expected)], expected, atol=1e-5)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_packed_equals_loop(packed, seed):
    forward, unembed = toy_model.make_forward(seed)
    trunk, cuts, answers = packed
    ell_bk, logprob_bs = score_packed(forward, unembed, TOKENS, trunk, cuts, answers, chunk=5)
    assert_equals_loop(ell_bk, forward, unembed)

    hidden, cache = jax.jit(forward)(TOKENS, trunk.position_s, trunk.valid_s, ())
    ell_on_cache_bk = score_on_cache(forward, unembed, (cache,), trunk, cuts, answers, chunk=7, share_lead_in=True)
    assert_equals_loop(ell_on_cache_bk, forward, unembed)
    for row in range(2):
        plain = np.array(jax.nn.log_softmax(hidden[row] @ unembed))
        own = [plain[s - 1, TOKENS[row, s]] for s in range(START[row] + 1, END[row])]
        np.testing.assert_allclose(logprob_bs[row, START[row] + 1 : END[row]], own, atol=1e-5)


@pytest.mark.parametrize("terminator", rewards.TERMINATORS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_prefixes_of_any_length_equal_loop(terminator, seed):
    """Each cut of each row has a prefix of its own length, 0 among them, in packed and cached scoring."""
    forward, unembed = toy_model.make_forward(seed)
    trunk, cuts, answers = pack(PREFIXES, terminator)
    ell_bk, _ = score_packed(forward, unembed, TOKENS, trunk, cuts, answers, chunk=5)
    assert_equals_loop(ell_bk, forward, unembed, prefixes=PREFIXES, terminator=terminator)
    _, cache = jax.jit(forward)(TOKENS, trunk.position_s, trunk.valid_s, ())
    ell_on_cache_bk = score_on_cache(forward, unembed, (cache,), trunk, cuts, answers, share_lead_in=True)
    assert_equals_loop(ell_on_cache_bk, forward, unembed, prefixes=PREFIXES, terminator=terminator)


@pytest.mark.parametrize(
    "over_spellings, over_tokens, terminator",
    [
        pytest.param(*options, marks=() if options in FAST_OPTIONS else pytest.mark.slow)
        for options in itertools.product(rewards.OVER_SPELLINGS, rewards.OVER_TOKENS, rewards.TERMINATORS)
    ],
)
def test_options_equal_loop(terminator, over_tokens, over_spellings):
    forward, unembed = toy_model.make_forward()
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    ell_bk, _ = score_packed(forward, unembed, TOKENS, *pack(terminator=terminator), **options)
    assert_equals_loop(ell_bk, forward, unembed, terminator=terminator, **options)


@pytest.mark.parametrize("options", [{"over_tokens": "mean_prob"}, {"over_tokens": "sum_logprob"}])
def test_options_change_the_score(packed, options):
    forward, unembed = toy_model.make_forward()
    plain, _ = score_packed(forward, unembed, TOKENS, *packed)
    changed, _ = score_packed(forward, unembed, TOKENS, *packed, **options)
    assert (abs(plain - changed)[packed[1].valid_k] > 1e-3).all()


def test_sum_over_spellings_exceeds_their_maximum_if_there_are_several(packed):
    forward, unembed = toy_model.make_forward()
    plain, _ = score_packed(forward, unembed, TOKENS, *packed)
    summed, _ = score_packed(forward, unembed, TOKENS, *packed, over_spellings="logsumexp")
    assert (summed[0] > plain[0] + 1e-4).all()
    np.testing.assert_allclose(summed[1], plain[1], atol=1e-6)


def test_event_of_one_ending_of_one_token_equals_the_tag():
    forward, unembed = toy_model.make_forward()
    trunk, cuts, _ = pack()
    both = [
        rewards.pack_answers(LEAD_IN, VARIANTS[0], [(5,)], max_variants=3, max_tokens=4, terminator=terminator)
        for terminator in ("tag", "event")
    ]
    for tag, event in zip(*both, strict=True):
        np.testing.assert_array_equal(tag, event)
    answers = jax.tree.map(lambda x: np.stack([x, x]), both[1])
    ell_bk, _ = score_packed(forward, unembed, TOKENS, trunk, cuts, answers)
    assert np.isfinite(ell_bk).all()


def test_event_of_more_endings_is_likelier():
    forward, unembed = toy_model.make_forward()
    trunk, cuts, _ = pack()
    ells = []
    for n in (1, 2, 3, 4):
        answers = [
            rewards.pack_answers(LEAD_IN, v, CLOSINGS[:n], max_variants=3, max_tokens=4, terminator="event")
            for v in VARIANTS
        ]
        answers = jax.tree.map(lambda *xs: np.stack(xs), *answers)
        ells.append(score_packed(forward, unembed, TOKENS, trunk, cuts, answers)[0][0])
    assert (ells[0] < ells[1]).all() and (ells[2] < ells[3]).all()
    np.testing.assert_array_equal(ells[1], ells[2])  # the third ending begins like the first


def test_ids_without_a_token_equal_a_sliced_output_matrix():
    """For leaves and trunk, without and with prefixes. No id from 23 on has a token, and each would be likely."""
    forward, unembed = toy_model.make_forward()
    padded = jnp.concatenate([unembed, 3 * unembed[:, :5]], axis=1)
    for prefixes in (None, PREFIXES):
        batch = TOKENS, *pack(prefixes, "event")
        sliced = score_packed(forward, unembed, *batch)
        masked = score_packed(forward, padded, *batch, is_token_v=np.arange(28) < 23)
        plain = score_packed(forward, padded, *batch)
        for found, expected, other in zip(masked, sliced, plain, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
            assert not np.allclose(found, other, atol=1e-2)


def test_ell_0_of_a_question_is_that_of_each_of_its_responses():
    """On the prompts' cache with a row a question, and on the responses' cache with a cut after the prompt.

    Responses write something else after the prompt, which the opening in the leaf replaces.
    """
    forward, unembed = toy_model.make_forward()
    n_questions, group, prompt, opening = 2, 3, 4, (9, 1)
    start_b = np.array([1, 0])  # padding on the left
    token_bs = np.random.default_rng(0).integers(0, 23, size=(n_questions * group, 9))
    token_bs[:, :prompt] = np.repeat(token_bs[::group, :prompt], group, axis=0)
    answers = pack(terminator="event")[2]

    def score(tokens, starts, answers):
        rows, slots = tokens.shape
        slot = np.arange(slots)[None]
        trunk = rewards.Trunk(np.maximum(slot - starts[:, None], 0), slot >= starts[:, None])
        one = np.ones((rows, 1), int)
        cuts = rewards.Cuts(prompt * one, one > 0, np.tile(opening, (rows, 1, 1)), len(opening) * one)
        _, cache = jax.jit(forward)(tokens, trunk.position_s, trunk.valid_s, ())
        return score_on_cache(forward, unembed, (cache,), trunk, cuts, answers, share_lead_in=True)

    of_questions = score(token_bs[::group, :prompt], start_b, answers)
    repeated = jax.tree.map(lambda x: np.repeat(x, group, axis=0), answers)
    of_responses = score(token_bs, np.repeat(start_b, group), repeated)
    assert of_questions.shape == (n_questions, 1)
    np.testing.assert_allclose(of_responses, jnp.repeat(of_questions, group, axis=0), atol=1e-5)


@pytest.mark.slow
def test_wider_arrays_have_the_same_score():
    """Room for more variants, answer tokens and prefix ids is padding alone."""
    forward, unembed = toy_model.make_forward()
    for terminator in rewards.TERMINATORS:
        trunk, cuts, answers = pack(PREFIXES, terminator)
        _, _, wide = pack(PREFIXES, terminator, max_variants=5, max_tokens=7)
        wide_cuts = cuts._replace(prefix_kx=np.pad(cuts.prefix_kx, ((0, 0), (0, 0), (0, 2)), constant_values=13))
        tight_ell, _ = score_packed(forward, unembed, TOKENS, trunk, cuts, answers)
        wide_ell, _ = score_packed(forward, unembed, TOKENS, trunk, wide_cuts, wide)
        np.testing.assert_allclose(wide_ell, tight_ell, atol=1e-5)


def test_empty_prefixes_are_no_prefixes(packed):
    forward, unembed = toy_model.make_forward()
    plain, _ = score_packed(forward, unembed, TOKENS, *packed)
    empty, _ = score_packed(forward, unembed, TOKENS, *pack(NO_PREFIXES))
    np.testing.assert_allclose(plain, empty, atol=1e-6)


def test_tokens_after_the_cut_have_no_effect(packed):
    """Changing the trunk after cut k leaves ℓ_0 … ℓ_k unchanged, bit for bit."""
    forward, unembed = toy_model.make_forward()
    before, _ = score_packed(forward, unembed, TOKENS, *packed)
    after, _ = score_packed(forward, unembed, TOKENS.at[0, 5:].set(1), *packed)
    np.testing.assert_array_equal(before[0, :2], after[0, :2])
    assert (before[0, 2:] != after[0, 2:]).all()


def test_order_of_variants_has_no_effect(packed):
    forward, unembed = toy_model.make_forward()
    trunk, cuts, answers = packed
    ell, _ = score_packed(forward, unembed, TOKENS, trunk, cuts, answers)
    reversed_answers = jax.tree.map(lambda x: x[:, ::-1], answers)
    reversed_ell, _ = score_packed(forward, unembed, TOKENS, trunk, cuts, reversed_answers)
    np.testing.assert_allclose(ell, reversed_ell, atol=1e-6)


def test_scores_have_no_gradient(packed):
    forward, unembed = toy_model.make_forward()

    def total(unembed):
        return sum(x.sum() for x in score_packed(forward, unembed, TOKENS, *packed))

    assert (jax.jit(jax.grad(total))(unembed) == 0).all()


def test_mask_of_leaves_is_the_one_drawn_in_the_docstring():
    trunk = rewards.Trunk(jnp.arange(4), jnp.ones(4, bool))
    cuts = rewards.Cuts(jnp.array([2, 3]), jnp.ones(2, bool))
    branches = build_branches(trunk, cuts, build_one_variant(width=3), share_lead_in=False)
    rows = [line.split("│")[1] for line in probes.__doc__.splitlines() if "│ x" in line]
    drawn = [[mark == "x" for mark in row.split()] for row in rows]
    np.testing.assert_array_equal(jnp.repeat(branches.visible_ks, 3, axis=0), drawn)
    np.testing.assert_array_equal(branches.position_kc, [[2, 3, 4], [3, 4, 5]])


def test_padding_of_the_trunk_is_not_visible():
    trunk = rewards.Trunk(jnp.arange(3), jnp.array([False, True, True]))
    cuts = rewards.Cuts(jnp.array([3]), jnp.ones(1, bool))
    branches = build_branches(trunk, cuts, build_one_variant(width=1), share_lead_in=False)
    np.testing.assert_array_equal(branches.visible_ks, [[False, True, True]])


def test_leaves_continue_from_the_greatest_position():
    """On every axis of M-RoPE, after an image whose last token has a smaller position, and after padding."""
    position_sx = jnp.array([[0, 0, 0], [1, 1, 1], [1, 3, 1], [1, 2, 2], [9, 9, 9]])
    trunk = rewards.Trunk(position_sx, jnp.array([True, True, True, True, False]))
    cuts = rewards.Cuts(jnp.array([2, 4, 5]), jnp.ones(3, bool))
    expected = jnp.repeat(jnp.array([[2, 3], [4, 5], [4, 5]])[..., None], 3, axis=-1)
    branches = build_branches(trunk, cuts, build_one_variant(width=2), share_lead_in=False)
    np.testing.assert_array_equal(branches.position_kc, expected)
    answers = rewards.pack_answers((3, 4), [(7,), (8, 9)], [(5,)], max_variants=2, max_tokens=2)
    leaves = probes.build_leaves(build_branches(trunk, cuts, answers, share_lead_in=True), answers)
    np.testing.assert_array_equal(leaves.position_rp, np.repeat(expected + 2, 2, axis=0))


def build_one_variant(width):
    return rewards.Answers(jnp.zeros((1, width), jnp.int32), jnp.zeros((1, 1, 1), jnp.int32), jnp.ones((1, 1), bool))


def test_branches_write_their_prefix_first():
    """Cut 0 has a prefix of one id, cut 1 none, cut 2 one of two; the padding is on the right, and no leaf sees it."""
    answers = rewards.pack_answers((3, 4), [(7,), (8, 9)], [(5,)], max_variants=2, max_tokens=2)
    prefix_kx, length_k = jnp.array([[11, 0], [0, 0], [11, 12]]), jnp.array([1, 0, 2])
    cuts = rewards.Cuts(jnp.array([2, 3, 3]), jnp.ones(3, bool), prefix_kx, length_k)
    trunk = rewards.Trunk(jnp.arange(3), jnp.ones(3, bool))
    branches = build_branches(trunk, cuts, answers, share_lead_in=True)
    np.testing.assert_array_equal(branches.token_kc, [[11, 3, 4, 0], [3, 4, 0, 0], [11, 12, 3, 4]])
    np.testing.assert_array_equal(branches.position_kc, [[2, 3, 4, 5], [3, 4, 5, 6], [3, 4, 5, 6]])
    np.testing.assert_array_equal(branches.length_k, [3, 2, 4])
    leaves = probes.build_leaves(branches, answers)
    np.testing.assert_array_equal(leaves.token_rp, [[7, 0], [8, 9]] * 3)
    np.testing.assert_array_equal(leaves.position_rp, [[5, 6]] * 4 + [[7, 8]] * 2)
    sees = [[1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(leaves.visible_rx, np.repeat(sees, 2, axis=0))


@pytest.mark.parametrize(
    "variants, share, expected",
    [
        (((19,), (20, 21)), True, [(4, 2), (8, 4)]),
        (((19,),), True, [(4, 6)]),
        (((19,), (20, 21)), False, [(8, 6)]),
    ],
)
def test_what_variants_have_in_common_is_computed_once(variants, share, expected):
    """Two rows of two cuts: four lead-ins of two tokens, then eight leaves; a single pass unless it is asked for."""
    forward, unembed = toy_model.make_forward()
    answers = rewards.pack_answers(
        LEAD_IN, variants, CLOSINGS, max_variants=len(variants), max_tokens=3, terminator="tag"
    )
    trunk, cuts, _ = pack()
    cuts = jax.tree.map(lambda x: np.asarray(x)[:, :2], cuts)
    shapes = []

    def counted(token_rt, *others):
        shapes.append(token_rt.shape)
        return forward(token_rt, *others)

    _, cache = jax.eval_shape(forward, TOKENS, trunk.position_s, trunk.valid_s, ())
    answers = jax.tree.map(lambda x: np.stack([x, x]), answers)
    score = functools.partial(rewards.score_on_cache, counted, share_lead_in=share)
    jax.eval_shape(score, unembed, (cache,), trunk, cuts, answers)
    assert shapes == expected


def test_pack_answers_leaves_out_variants_that_do_not_fit():
    variants = [(1, 1, 1), (7,), (7,), (8,), (9,)]  # and repetitions
    answers = rewards.pack_answers(LEAD_IN, variants, CLOSINGS, max_variants=2, max_tokens=2, terminator="tag")
    np.testing.assert_array_equal(answers.token_ap, [[3, 4, 7, 5, 0], [3, 4, 8, 5, 0]])
    np.testing.assert_array_equal(answers.target_aye, [[[7], [5], [6], [-1]], [[8], [5], [6], [-1]]])
    np.testing.assert_array_equal(answers.scored_ay, [[True, True, True, False]] * 2)


def test_pack_answers_with_the_event_of_any_ending():
    """One position after the answer, with each first id once."""
    answers = rewards.pack_answers(LEAD_IN, [(7,), (8, 9)], CLOSINGS, max_variants=3, max_tokens=2, terminator="event")
    np.testing.assert_array_equal(answers.token_ap, [[3, 4, 7, 0], [3, 4, 8, 9], [3, 4, 0, 0]])
    none, ending = [-1, -1, -1], [5, 18, 2]
    target_aye = [[[7, -1, -1], ending, none], [[8, -1, -1], [9, -1, -1], ending], [none] * 3]
    np.testing.assert_array_equal(answers.target_aye, target_aye)
    np.testing.assert_array_equal(answers.scored_ay, [[True, True, False], [True] * 3, [False] * 3])


def test_pack_answers_raises_if_no_variant_fits():
    with pytest.raises(ValueError, match=r"answers of \[3\] tokens where 1 to 2 fit"):
        rewards.pack_answers(LEAD_IN, [(1, 1, 1)], CLOSINGS, max_variants=2, max_tokens=2)


@pytest.mark.parametrize("closings", [(), ((),), ((5, 6), ())])
def test_pack_answers_raises_without_an_ending(closings):
    with pytest.raises(ValueError, match="cannot build a probe from a lead-in of 2 tokens, endings of"):
        rewards.pack_answers(LEAD_IN, [(1,)], closings, max_variants=2, max_tokens=2)


def test_pack_answers_raises_for_an_unknown_terminator():
    with pytest.raises(ValueError, match="unknown terminator 'stop'; choose one of tag, event"):
        rewards.pack_answers(LEAD_IN, [(1,)], CLOSINGS, max_variants=2, max_tokens=2, terminator="stop")


def test_prefixes_without_lengths_raise():
    forward, unembed = toy_model.make_forward()
    trunk, cuts, answers = pack(PREFIXES)
    with pytest.raises(ValueError, match="both of prefix_kx and prefix_length_k"):
        rewards.score_packed(forward, unembed, TOKENS, trunk, cuts._replace(prefix_length_k=None), answers)


def test_unbatched_cuts_raise(packed):
    forward, unembed = toy_model.make_forward()
    with pytest.raises(AssertionError, match="leading axis B"):
        rewards.score_packed(forward, unembed, TOKENS[:1], *jax.tree.map(lambda x: x[0], packed))
