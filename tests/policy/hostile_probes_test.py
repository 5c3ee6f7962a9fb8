"""Parse thousands of hostile completions and build their probes: every mask stays in bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.policy import completions
from mig_jax.rewards import probes
from mig_jax.text.tokenizer import build_character_tokenizer
from tests.text.hostile import hostile_completions, hostile_ids

PROMPT, WIDTH, MAX_STEPS, BATCH = 5, 48, 4, 1000


@jax.jit
@jax.vmap
def count_errors(start, length, cuts, step_t):
    """Count the entries of one response's cuts, masks and positions that are out of bounds."""
    slot_s = jnp.arange(PROMPT + WIDTH)
    trunk = rewards.Trunk(jnp.maximum(slot_s - start, 0), (slot_s >= start) & (slot_s < PROMPT + length))
    slots = cuts._replace(cut_k=cuts.cut_k + PROMPT)
    answers = rewards.Answers(jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 2), jnp.int32), jnp.ones((2, 2), bool))
    leaves = probes.build_leaves(trunk, slots, answers)
    sees_trunk_kas = leaves.visible_rs.reshape(MAX_STEPS + 1, 2, PROMPT + WIDTH)
    allowed_ks = trunk.valid_s[None] & (slot_s[None] < slots.cut_k[:, None])
    is_inside_t = jnp.arange(WIDTH) < length
    return jnp.array([
        (cuts.cut_k < 0).sum() + (cuts.cut_k > length).sum(),
        (jnp.where(cuts.valid_k[1:], jnp.diff(cuts.cut_k), 0) < 0).sum(),
        (sees_trunk_kas != allowed_ks[:, None]).sum(),
        (leaves.position_rp.reshape(MAX_STEPS + 1, 2, 3)[:, :, 0] != (slots.cut_k - start)[:, None]).sum(),
        ((step_t >= 0) & ~is_inside_t).sum() + (step_t >= MAX_STEPS).sum(),
        ~cuts.valid_k[0],
    ])  # fmt: skip


@pytest.mark.parametrize("n", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_completions_as_probes(n):
    rng = np.random.default_rng(1)
    tokenizer = build_character_tokenizer()
    parsed, lengths, probed = [], [], 0
    for completion in hostile_completions(rng, n):
        ids = hostile_ids(rng, completion, tokenizer.vocab_size)[:WIDTH]
        is_truncated = bool(rng.random() < 0.5)
        parsed.append(
            completions.parse_completion(tokenizer, ids, is_truncated=is_truncated, max_steps=MAX_STEPS, width=WIDTH)
        )
        lengths.append(len(ids))
        if len(parsed) == BATCH:
            cuts = rewards.Cuts(np.stack([r.cut_k for r in parsed]), np.stack([r.valid_k for r in parsed]))
            start = rng.integers(0, PROMPT, BATCH)
            found = count_errors(start, np.array(lengths), cuts, np.stack([r.step_t for r in parsed]))
            assert not found.any(), np.array(found).sum(0)
            probed += int(cuts.valid_k.sum())
            parsed, lengths = [], []
    assert probed > 1.5 * n, "most cuts must be valid for this test to mean anything"
