"""A response with all its probes as one sequence, for any model that takes an attention mask. Needs numpy alone.

    trunk | leaf 0 | leaf 1 | …            a leaf: prefix of its cut, lead-in, one variant of the answer, its ending

A leaf attends to the trunk up to its cut and, causally, to itself; the mask is drawn in `mig_jax.rewards.probes`. Only
real tokens are laid: no padding, no leaf of a cut that is not valid.

    tree = lay_tree(token_s, cuts, answers)
    logits = model(tree.token_t, tree.position_t, tree_mask(tree))
    # logits[tree.query_kay] predict answers.target_aye
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mig_jax.rewards.arrays import Answers, Cuts


class Tree(NamedTuple):
    """A trunk and its leaves, T tokens in all. Token t attends to the slots s < trunk_t[t] and start_t[t] ≤ s ≤ t.

    token_t: `[T]` ids.
    position_t: `[T]` positions; those of a leaf continue from its cut.
    trunk_t: `[T]` slots of the trunk that a token of a leaf attends to; 0 for the trunk itself.
    start_t: `[T]` first slot of the trunk or leaf that a token belongs to.
    query_kay: `[K+1, A, Y]` slot whose output predicts each scored target; −1 where there is none.
    """

    token_t: np.ndarray
    position_t: np.ndarray
    trunk_t: np.ndarray
    start_t: np.ndarray
    query_kay: np.ndarray


def lay_tree(token_s: Sequence[int], cuts: Cuts, answers: Answers) -> Tree:
    """Return one response and all its probes as one sequence.

    Args:
      token_s: `[S]` ids of prompt and response, without padding.
      cuts: positions in them, `[K+1]`.
      answers: variants of the reference answer, see `pack_answers`.
    """
    n_trunk = len(token_s)
    token, position = [*token_s], [*range(n_trunk)]
    seen, start = [0] * n_trunk, [0] * n_trunk
    scored_ay = np.asarray(answers.scored_ay)
    query_kay = np.full((len(cuts.cut_k), *scored_ay.shape), -1, np.int32)
    for k, a, prefix in leaves(cuts, answers):
        n_scored = int(scored_ay[a].sum())
        n_lead_in = answers.token_ap.shape[1] - scored_ay.shape[1]  # one more than these come before the first target
        ids = [*prefix, *np.asarray(answers.token_ap)[a, : n_lead_in + n_scored].tolist()]
        cut, first = int(cuts.cut_k[k]), len(token)
        token += ids
        position += range(cut, cut + len(ids))
        seen += [cut] * len(ids)
        start += [first] * len(ids)
        query_kay[k, a, :n_scored] = np.arange(n_scored) + first + len(prefix) + n_lead_in
    token_t, position_t, trunk_t, start_t = (np.array(x, np.int32) for x in (token, position, seen, start))
    return Tree(token_t, position_t, trunk_t, start_t, query_kay)


def leaves(cuts: Cuts, answers: Answers) -> list[tuple[int, int, list[int]]]:
    """Return the leaves of one response, by cut, then by variant: number of the cut, of the variant, and the prefix."""
    variants = np.flatnonzero(np.asarray(answers.scored_ay).any(-1)).tolist()
    found = []
    for k in np.flatnonzero(np.asarray(cuts.valid_k)).tolist():
        length = 0 if cuts.prefix_length_k is None else int(cuts.prefix_length_k[k])
        prefix = [] if cuts.prefix_kx is None else np.asarray(cuts.prefix_kx)[k, :length].tolist()
        found += [(k, a, prefix) for a in variants]
    return found


def tree_mask(tree: Tree) -> np.ndarray:
    """Return which slots each token attends to, `[T, T]` bool; `[B, T, T]` for stacked trees."""
    slots = np.arange(tree.token_t.shape[-1])
    is_trunk = slots < tree.trunk_t[..., None]
    return is_trunk | ((slots >= tree.start_t[..., None]) & (slots <= slots[:, None]))


def stack_trees(trees: Sequence[Tree], *, pad_id: int, width: int | None = None) -> Tree:
    """Return B trees in one, padded on the right to T slots; every field has a leading axis B.

    Padding attends to itself alone, and nothing attends to it.

    Args:
      trees: with any numbers of cuts, variants and tokens; the shorter `query_kay` are padded with −1.
      pad_id: id of the padding.
      width: T; None for the longest tree.

    Raises:
      ValueError: a tree is longer than `width`.
    """
    width = max(len(tree.token_t) for tree in trees) if width is None else width
    if any(len(tree.token_t) > width for tree in trees):
        raise ValueError(f"a tree has {max(len(tree.token_t) for tree in trees)} tokens, more than width={width}")
    stacked = Tree(
        token_t=np.full((len(trees), width), pad_id, np.int32),
        position_t=np.zeros((len(trees), width), np.int32),
        trunk_t=np.zeros((len(trees), width), np.int32),
        start_t=np.tile(np.arange(width, dtype=np.int32), (len(trees), 1)),
        query_kay=np.full((len(trees), *np.max([tree.query_kay.shape for tree in trees], axis=0)), -1, np.int32),
    )
    for row, tree in enumerate(trees):
        for whole, own in zip(stacked[:4], tree[:4], strict=True):
            whole[row, : len(own)] = own
        stacked.query_kay[(row, *map(slice, tree.query_kay.shape))] = tree.query_kay
    return stacked
