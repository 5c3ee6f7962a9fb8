"""Every program of a run is named here, with the most sizes of it that a run compiles.

`docs/performance.md` has the same table. Shapes that vary from batch to batch are rounded to few sizes:

    P   widths of prompts         widths.possible_widths(data.max_prompt_tokens)
    T   widths of completions     widths.possible_widths(rollout.max_new_tokens)
    C   chunks of the KV cache    rollout.kv_cache_chunks
    R   numbers of rows           all of them, and leaving.subset_sizes of them
    K   probed steps              powers of two up to reward.max_steps
    A   variants of an answer     powers of two up to reward.max_variants
    Y   tokens of an answer       multiples of 4 up to data.max_answer_tokens
"""

import jax
import pytest

from mig_jax.models import leaving
from mig_jax.policy.generate import chunk_widths
from mig_jax.rollout import widths
from mig_jax.trainer import train
from mig_jax.trainer.preemption import Preempted
from mig_jax.trainer.update import Update
from tests import tiny
from tests.trainer.train_test import counting_programs


def bounds(config):
    """Return the most sizes of each program that a run of this config compiles, on one device."""
    rollout, e = config.rollout, config.eval
    p, t = (len(widths.possible_widths(n)) for n in (config.data.max_prompt_tokens, rollout.max_new_tokens))
    c = len(chunk_widths(rollout.max_new_tokens, rollout.kv_cache_chunks))
    r, r_eval = (1 + len(leaving.subset_sizes(n)) for n in (rollout.questions * rollout.group_size, e.batch_size))
    k, a = (1 + (n - 1).bit_length() for n in (config.reward.max_steps, config.reward.max_variants))
    y = -(-config.data.max_answer_tokens // 4)
    # Of rollouts, and of greedy and sampled evaluations, whose prompts are not cut.
    samplers, subsets = p * r + 2 * r_eval, p * (r - 1) + 2 * (r_eval - 1)
    return {
        "init_state": 1,
        "prefill": p + 2,
        "empty_chunk": c * samplers,
        "decode": c * samplers,
        "leave": c * subsets,
        "rejoin_state": subsets,
        "rejoin_chunk": c * subsets,
        "likelihood": p * c * k * a * y,
        "make_train_batch": p * t * k,
        "train_step": p * t,
    }


@pytest.fixture
def sizes_ahead(monkeypatch):
    """Return the sizes of the batches whose update was compiled ahead."""
    sizes, compile_ahead = [], Update.compile_ahead

    def recording(self, state, batch):
        sizes.append((batch.token_bs.shape, batch.full_mask_bt.shape))
        compile_ahead(self, state, batch)

    monkeypatch.setattr(Update, "compile_ahead", recording)
    return sizes


def run_and_count(config, workdir, *, stop_after=None):
    """Train until the end or a stop, and return how often each program was compiled until each row of metrics."""
    asked = iter(range(1000))
    with counting_programs() as programs_by_row:
        try:
            train.run(
                config, str(workdir), mode="train", devices=jax.devices()[:1],
                should_stop=lambda: next(asked) == stop_after,
            )  # fmt: skip
        except Preempted:
            assert stop_after is not None
    return programs_by_row


@pytest.mark.slow
def test_each_program_is_compiled_once_for_each_size(tmp_path, sizes_ahead):
    """Lengths differ from step to step; there are evaluations, checkpoints, and a run that is resumed."""
    config = tiny.get_quickstart(
        steps=8, rollout__max_new_tokens=128, rollout__questions=2, rollout__group_size=8, rollout__temperature=1.2,
        data__train="1 chain:terms=7 + 1 chain:terms=16", data__eval="chain:terms=7", data__max_prompt_tokens=128,
        data__max_answer_tokens=16, eval__every=2, checkpoint__every=2,
    )  # fmt: skip
    most, widest = bounds(config), 0
    for stop_after in (4, None):
        sizes_ahead.clear()
        programs_by_row = run_and_count(config, tmp_path, stop_after=stop_after)
        first, all_steps = programs_by_row[1], programs_by_row[-1]
        assert {name: n for name, n in all_steps.items() if n > most.get(name, n)} == {}
        # What is not named here compiles in the first step, if at all.
        assert set(all_steps - first) <= set(most)
        assert all_steps["train_step"] == len(sizes_ahead) == len(set(sizes_ahead))
        widest = max(widest, len(sizes_ahead))
    assert widest > 1, "all batches were of one size"
