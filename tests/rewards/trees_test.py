"""Trees and pairs give the likelihoods of packed probes, which equal plain sequences (probes_test.py)."""

import functools

import jax
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import numpy_twins
from tests.rewards import toy_model
from tests.rewards.probes_test import END, PREFIXES, START, TOKENS, pack

OPTIONS = {"over_tokens": "mean_prob", "over_spellings": "logsumexp"}


@pytest.fixture(scope="module", params=["tag", "event"])
def scored(request):
    """Ids, cuts, answers of both rows of `pack` without padding, and ℓ of the packed probes."""
    trunk, cuts, answers = pack(PREFIXES, request.param)
    forward, unembed = toy_model.make_forward()
    score = jax.jit(functools.partial(rewards.score_packed, forward, unembed, **OPTIONS))
    ell_bk, _ = score(TOKENS, trunk, cuts, answers)
    rows = []
    for row in (0, 1):
        own_cuts, own_answers = jax.tree.map(lambda x, row=row: np.asarray(x[row]), (cuts, answers))
        own_cuts = own_cuts._replace(cut_k=own_cuts.cut_k - START[row])
        rows.append((TOKENS[row, START[row] : END[row]].tolist(), own_cuts, own_answers))
    return rows, np.asarray(ell_bk)


def test_trees_equal_packed_probes(scored):
    rows, want_bk = scored
    trees = [rewards.lay_tree(*row) for row in rows]
    batch = rewards.stack_trees(trees, pad_id=9, width=128)
    logits = jax.jit(toy_model.make_masked_forward())(batch.token_t, batch.position_t, rewards.tree_mask(batch))
    logprob_btv = np.asarray(jax.nn.log_softmax(logits))
    for row, (_, cuts, answers) in enumerate(rows):
        logprob_kayv = logprob_btv[row, batch.query_kay[row]]
        id_kaye = np.broadcast_to(answers.target_aye, (len(cuts.cut_k), *answers.target_aye.shape))
        picked = np.take_along_axis(logprob_kayv, np.maximum(id_kaye, 0), axis=-1)
        logprob_kay = np.logaddexp.reduce(np.where(id_kaye >= 0, picked, -np.inf), axis=-1)
        ell_k = numpy_twins.answer_likelihood(logprob_kay, answers.scored_ay, **OPTIONS)
        np.testing.assert_allclose(ell_k[cuts.valid_k], want_bk[row][cuts.valid_k], atol=1e-5)


def test_pairs_equal_packed_probes(scored):
    forward = jax.jit(toy_model.make_masked_forward())
    for (token_s, cuts, answers), want_k in zip(*scored, strict=True):
        pairs = rewards.probe_pairs(token_s, cuts, answers)
        texts = [pair.context + pair.continuation for pair in pairs]
        token_rt = np.zeros((48, 24), np.int32)
        for row, ids in zip(token_rt, texts, strict=False):
            row[: len(ids)] = ids
        causal = np.tril(np.ones((24, 24), bool))
        logits = forward(token_rt, np.tile(np.arange(24), (48, 1)), np.tile(causal, (48, 1, 1)))
        logprob_rtv = np.asarray(jax.nn.log_softmax(logits))
        logprobs = [
            [logprob_rtv[r, len(pair.context) + n - 1, id] for n, id in enumerate(pair.continuation)]
            for r, pair in enumerate(pairs)
        ]
        ell_k = rewards.pairs_likelihood(pairs, logprobs, answers, n_cuts=len(cuts.cut_k), **OPTIONS)
        np.testing.assert_allclose(ell_k[cuts.valid_k], want_k[cuts.valid_k], atol=1e-5)


def test_mask_of_a_tree_is_the_drawing():
    """The drawing at the head of probes.py: a trunk of four tokens, two cuts, one variant, leaves of three tokens."""
    answers = rewards.pack_answers([7], [[8, 9]], [[5]], max_variants=1, max_tokens=2)
    tree = rewards.lay_tree([1, 2, 3, 4], rewards.Cuts(np.array([2, 3]), np.ones(2, bool)), answers)
    assert tree.token_t.tolist() == [1, 2, 3, 4, 7, 8, 9, 7, 8, 9]
    assert tree.position_t.tolist() == [0, 1, 2, 3, 2, 3, 4, 3, 4, 5]
    assert tree.query_kay.tolist() == [[[4, 5, 6]], [[7, 8, 9]]]
    drawn = """
        x·········
        xx········
        xxx·······
        xxxx······
        xx··x·····
        xx··xx····
        xx··xxx···
        xxx····x··
        xxx····xx·
        xxx····xxx"""
    assert rewards.tree_mask(tree).tolist() == [[c == "x" for c in line] for line in drawn.split()]


def test_too_long_trees_are_an_error():
    answers = rewards.pack_answers([7], [[8]], [[5]], max_variants=1, max_tokens=1)
    tree = rewards.lay_tree([1, 2], rewards.Cuts(np.array([2]), np.ones(1, bool)), answers)
    with pytest.raises(ValueError, match="a tree has 4 tokens, more than width=3"):
        rewards.stack_trees([tree], pad_id=0, width=3)


def test_too_few_logprobs_are_an_error():
    answers = rewards.pack_answers([7], [[8]], [[5]], max_variants=1, max_tokens=1)
    pairs = rewards.probe_pairs([1, 2], rewards.Cuts(np.array([2]), np.ones(1, bool)), answers)
    assert pairs == [rewards.Pair([1, 2, 7], [8, 5], 0, 0, 0)]
    with pytest.raises(ValueError, match="a continuation of 2 ids has 1 log-probs"):
        rewards.pairs_likelihood(pairs, [[-1.0]], answers, n_cuts=1)
