"""Dynamic sampling: groups without signal are replaced, within a bound, and counted."""

import itertools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.rollout import resample
from mig_jax.rollout.rollout import RolloutResult

GROUP, WIDTH = 2, 3


def rollout_of(signals):
    """Return a stand-in for `Rollout`: its n-th call has the n-th pattern of signal, and marks its rows with n."""

    def rollout(params, prompt_batch, key):
        signal_q = np.array(signals[prompt_batch])
        rows = len(signal_q) * GROUP
        mark_b = 100 * prompt_batch + jnp.arange(rows)
        arrays: dict[str, Any] = dict.fromkeys(Batch._fields)
        arrays |= {"token_bs": jnp.tile(mark_b[:, None], (1, WIDTH)), "start_b": mark_b}
        arrays["full_mask_bt"] = jnp.ones((rows, 1), bool)
        metrics = {"rollout/tokens": 10.0, "time/rollout": 1.0, "reward/accuracy": float(prompt_batch)}
        metrics |= {"verifier/timeouts": 2.0, "verifier/timeouts_paid": 1.0}
        return RolloutResult(Batch(**arrays), metrics, mark_b.tolist(), signal_q)

    return rollout


def run(signals, max_resamples):
    sharded = sharding.batch_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    resampler = resample.Resampler(rollout_of(signals), sharded, max_resamples=max_resamples)
    batches = itertools.count()
    return resampler(None, batches, jax.random.key(0)), next(batches)


@pytest.mark.parametrize(
    "signals, limit, rows, calls, replaced, left",
    [
        ([[True, True]], 3, [0, 1, 2, 3], 1, 0, 0),
        # Group 0 is replaced by group 1 of the second rollout; group 1 stays.
        ([[False, True], [False, True]], 3, [102, 103, 2, 3], 2, 1, 0),
        # The bound leaves group 1 as it was.
        ([[False, False], [True, False]], 1, [100, 101, 2, 3], 2, 1, 1),
        ([[False, False], [False, False], [True, True]], 5, [200, 201, 202, 203], 3, 2, 0),
    ],
)
def test_groups_are_replaced_in_their_places(signals, limit, rows, calls, replaced, left):
    result, drawn = run(signals, limit)
    assert result.batch.start_b.tolist() == rows and result.transcripts == rows and drawn == calls
    np.testing.assert_array_equal(result.batch.token_bs, np.tile(np.array(rows)[:, None], (1, WIDTH)))
    assert result.metrics["rollout/rollouts"] == calls
    assert result.metrics["rollout/groups_replaced"] == replaced
    assert result.metrics["rollout/groups_without_signal"] == left
    # Work adds up; what describes the policy is a mean over all that was sampled.
    assert result.metrics["rollout/tokens"] == 10 * calls and result.metrics["time/rollout"] == calls
    assert result.metrics["verifier/timeouts"] == 2 * calls and result.metrics["verifier/timeouts_paid"] == calls
    assert result.metrics["reward/accuracy"] == np.mean(range(calls))


def test_batches_that_were_merged_are_released():
    """The update needs memory: the batches of earlier rollouts are gone by then, and by the next rollout."""
    alive = []

    def rollout(params, prompt_batch, key):
        assert sum(token_bs() is not None for token_bs in alive) == (len(alive) == 1)  # the only one yet
        result = rollout_of([[False, False]] * 3)(params, prompt_batch, key)
        alive.append(weakref.ref(result.batch.token_bs))
        return result

    sharded = sharding.batch_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    resample.Resampler(rollout, sharded, max_resamples=2)(None, itertools.count(), jax.random.key(0))
    assert len(alive) == 3 and not any(token_bs() is not None for token_bs in alive)


def test_no_rollout_has_the_key_of_a_token_of_the_first():
    keys = []

    def rollout(params, prompt_batch, key):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return rollout_of([[False, False]] * 3)(params, prompt_batch, key)

    sharded = sharding.batch_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    resample.Resampler(rollout, sharded, max_resamples=2)(None, itertools.count(), jax.random.key(0))
    of_tokens = jax.random.key_data(jax.vmap(lambda t: jax.random.fold_in(jax.random.key(0), t))(jnp.arange(4096)))
    assert len(set(keys)) == 3 and not set(keys[1:]) & set(map(tuple, of_tokens.tolist()))


def test_no_bound_is_the_plain_rollout():
    result, drawn = run([[False, False]], 0)
    assert drawn == 1 and "rollout/rollouts" not in result.metrics and result.batch.start_b.tolist() == [0, 1, 2, 3]
