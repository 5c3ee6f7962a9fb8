"""Variants of the reference answer and its ending, packed into arrays of fixed shape."""

from collections.abc import Callable, Sequence

import numpy as np

from mig_jax.rewards.arrays import Answers

# What is scored after the answer, from the ids of all endings, by the name that configs use: one set of ids a position.
TERMINATORS: dict[str, Callable[[Sequence[Sequence[int]]], list[list[int]]]] = {
    "tag": lambda closings: [[token] for token in closings[0]],
    "event": lambda closings: [list(dict.fromkeys(ids[0] for ids in closings))],
}


def pack_answers(
    lead_in: Sequence[int],
    variants: Sequence[Sequence[int]],
    closings: Sequence[Sequence[int]],
    *,
    max_variants: int,
    max_tokens: int,
    terminator: str = "event",
) -> Answers:
    """Pack the variants of one answer into arrays of fixed shape, with numpy on the host.

    The ending is scored with the answer: all tokens of the plain closing tag (tag), or one position with the summed
    probability of the first tokens of all endings (event).

    Args:
      lead_in: ids that close the think block and open the answer block; context, not scored.
      variants: ids of each variant of the answer, the reference answer first; repetitions are left out.
      closings: ids of each ending that the reader of answers accepts, the tokenizer's plain closing tag first.
      max_variants: A; the variants after the first A that fit are left out.
      max_tokens: the longest answer in tokens, without its ending; longer variants are left out.
      terminator: key of `TERMINATORS`.

    Returns:
      Answers with P = len(lead_in) + Y − 1; tag: Y = max_tokens + len(closings[0]) and E = 1; event: Y = max_tokens + 1
      and E distinct first tokens.

    Raises:
      ValueError: the lead-in or an ending is empty, no variant fits, or the terminator is unknown.
    """
    if terminator not in TERMINATORS:
        raise ValueError(f"unknown terminator {terminator!r}; choose one of {', '.join(TERMINATORS)}")
    distinct = dict.fromkeys(tuple(ids) for ids in variants)
    fitting = [ids for ids in distinct if 0 < len(ids) <= max_tokens][:max_variants]
    if not fitting or not lead_in or not closings or not all(closings):
        raise ValueError(
            f"cannot build a probe from a lead-in of {len(lead_in)} tokens, endings of {[*map(len, closings)]} and "
            f"answers of {[*map(len, variants)]} tokens where 1 to {max_tokens} fit; raise the limit on answer tokens, "
            "or leave this answer out"
        )
    ending = TERMINATORS[terminator](closings)
    width, n_ids = max_tokens + len(ending), max(len(ids) for ids in ending)
    token_ap = np.zeros((max_variants, len(lead_in) + width - 1), np.int32)
    target_aye = np.full((max_variants, width, n_ids), -1, np.int32)
    scored_ay = np.zeros((max_variants, width), bool)
    token_ap[:, : len(lead_in)] = lead_in
    for a, answer in enumerate(fitting):
        targets = [[token] for token in answer] + ending
        token_ap[a, len(lead_in) : len(lead_in) + len(targets) - 1] = [ids[0] for ids in targets[:-1]]
        for y, ids in enumerate(targets):
            target_aye[a, y, : len(ids)] = ids
        scored_ay[a, : len(targets)] = True
    return Answers(token_ap, target_aye, scored_ay)
