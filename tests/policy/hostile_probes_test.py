"""Parse thousands of hostile completions and build their probes: every mask stays in bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.policy import completions
from mig_jax.rewards import probes
from mig_jax.text.tokenizer import build_character_tokenizer, wrap
from tests.text.byte_pairs import to_fast, train_core
from tests.text.hostile import hostile_completions, hostile_ids

PROMPT, WIDTH, MAX_STEPS, BATCH = 5, 48, 4, 1000
LEAD_IN = 10_000  # an id that no prefix has


@jax.jit
@jax.vmap
def count_errors(start, length, cuts, step_t):
    """Count the entries of one response's cuts, masks and positions that are out of bounds."""
    slot_s = jnp.arange(PROMPT + WIDTH)
    trunk = rewards.Trunk(jnp.maximum(slot_s - start, 0), (slot_s >= start) & (slot_s < PROMPT + length))
    slots = cuts._replace(cut_k=cuts.cut_k + PROMPT)
    lead_in_ap, scored_ay = jnp.full((2, 3), LEAD_IN), jnp.ones((2, 2), bool)
    answers = rewards.Answers(lead_in_ap, jnp.zeros((2, 2, 1), jnp.int32), scored_ay)
    branches = probes.build_branches(trunk, slots, answers, share_lead_in=True)
    leaves = probes.build_leaves(branches, answers)
    sees_trunk_kas = leaves.visible_rx.reshape(MAX_STEPS, 2, -1)[:, :, : PROMPT + WIDTH]
    allowed_ks = trunk.valid_s[None] & (slot_s[None] < slots.cut_k[:, None])
    is_inside_t = jnp.arange(WIDTH) < length
    # Branches write the prefix of their cut, then the lead-in; leaves see all of it.
    n_prefix_k = cuts.prefix_length_k
    n_branch_k = n_prefix_k + 2
    first_position_ka = leaves.position_rp.reshape(MAX_STEPS, 2, -1)[:, :, 0]
    is_lead_in_kc = branches.token_kc == LEAD_IN
    first_k = jnp.argmax(is_lead_in_kc, axis=1)
    n_seen_ka = leaves.visible_rx.reshape(MAX_STEPS, 2, -1)[:, :, PROMPT + WIDTH :].sum(2)
    return jnp.array([
        (cuts.cut_k < 0).sum() + (cuts.cut_k > length).sum(),
        (jnp.where(cuts.valid_k[1:], jnp.diff(cuts.cut_k), 0) < 0).sum(),
        (sees_trunk_kas != allowed_ks[:, None]).sum(),
        (branches.position_kc[:, 0] != slots.cut_k - start).sum(),
        (first_position_ka != (slots.cut_k - start + n_branch_k)[:, None]).sum(),
        ((step_t >= 0) & ~is_inside_t).sum() + (step_t > cuts.valid_k.sum()).sum(),
        (first_k != n_prefix_k).sum() + (is_lead_in_kc.sum(1) != 2).sum() + (n_seen_ka != n_branch_k[:, None]).sum(),
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["characters", "merging"])
@pytest.mark.parametrize("n", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_completions_as_probes(kind, n):
    rng = np.random.default_rng(1)
    tokenizer = build_character_tokenizer() if kind == "characters" else wrap(to_fast(train_core()))
    parsed, lengths, probed, prefixed = [], [], 0, 0
    for completion in hostile_completions(rng, n):
        if kind == "characters":
            ids = hostile_ids(rng, completion, tokenizer.vocab_size)[:WIDTH]
        else:
            ids = tokenizer.encode(completion.replace("b\n</", "b.</"))[:WIDTH]
        is_truncated = bool(rng.random() < 0.5)
        parsed.append(
            completions.parse_completion(
                tokenizer,
                ids,
                is_truncated=is_truncated,
                max_steps=MAX_STEPS,
                width=WIDTH,
                process_mask="closing",
            )
        )
        lengths.append(len(ids))
        if len(parsed) == BATCH:
            cuts, _ = completions.stack_cuts(parsed, max_steps=MAX_STEPS)
            if cuts.prefix_kx is None:
                shape = BATCH, MAX_STEPS
                cuts = cuts._replace(prefix_kx=np.zeros((*shape, 1), int), prefix_length_k=np.zeros(shape, int))
            start = rng.integers(0, PROMPT, BATCH)
            found = count_errors(start, np.array(lengths), cuts, np.stack([r.step_t for r in parsed]))
            assert not found.any(), np.array(found).sum(0)
            probed += int(np.sum(cuts.valid_k))
            prefixed += int(np.sum(cuts.prefix_length_k > 0))
            parsed, lengths = [], []
    assert probed > 0.5 * n, "most cuts must be valid for this test to mean anything"
    assert prefixed > 0.02 * n or kind == "characters", "split tokens must occur"
