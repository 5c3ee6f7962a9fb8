"""Options of the update and of the loop: each changes what it should, and nothing is compiled twice."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.policy.load import load_policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.records import metrics
from mig_jax.rollout.rollout import make_rollout_functions
from mig_jax.trainer import train
from mig_jax.trainer.keys import PURPOSES, purpose_key
from mig_jax.trainer.update import build_step, build_update
from tests import tiny

ROWS, PROMPT, WIDTH = 8, 3, 5


def random_batch(policy, *, seed=0):
    """Return rows of random tokens whose old log-probs are up to 0.15 nats off those of the policy."""
    rng = np.random.default_rng(seed)
    mask_bt = np.arange(WIDTH) < rng.integers(1, WIDTH + 1, ROWS)[:, None]
    batch = Batch(
        token_bs=rng.integers(0, policy.config.vocab_size, (ROWS, PROMPT + WIDTH)).astype(np.int32),
        start_b=np.zeros(ROWS, np.int32),
        full_mask_bt=mask_bt,
        cot_mask_bt=mask_bt & (np.arange(WIDTH) > 0),
        old_logprob_bt=np.zeros((ROWS, WIDTH), np.float32),
        ref_logprob_bt=None,
        process_advantage_bt=rng.normal(size=(ROWS, WIDTH)).astype(np.float32),
        outcome_advantage_bt=rng.normal(size=(ROWS, WIDTH)).astype(np.float32),
        gate_b=rng.random(ROWS) < 0.5,
    )
    batch = jax.device_put(batch, sharding.batch_sharding(policy.mesh))
    logprobs = jax.jit(make_logprob_fn(policy, temperature=1.0, chunk=8))
    logprob_bt, *_ = logprobs(policy.params, batch)
    return batch._replace(old_logprob_bt=logprob_bt + rng.uniform(-0.15, 0.15, (ROWS, WIDTH)).astype(np.float32))


def load(config):
    return load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@functools.cache
def updated(**changes):
    """Return the parameters after all updates of one batch, and the metrics of each update."""
    config = tiny.get_config(**changes)
    policy = load(config)
    batch = random_batch(policy)
    state, update = build_update(policy, config, "train")
    state, rows = update(state, batch)
    return jax.tree.leaves(state.params), rows


def is_same(left, right):
    return all((x == y).all() for x, y in zip(left, right, strict=True))


@pytest.mark.slow
def test_one_minibatch_is_the_plain_update():
    config = tiny.get_config()
    policy = load(config)
    batch = random_batch(policy)
    step = build_step(policy, config, "train")
    state, _ = step.update(step.init(policy.params), batch)
    params, rows = updated(optimizer__minibatches=1)
    assert is_same(params, jax.tree.leaves(state.params)) and len(rows) == 1


@pytest.mark.slow  # train_step_test has mini-batches
def test_minibatches_are_updates_on_their_rows_one_after_the_other():
    config = tiny.get_config(optimizer__minibatches=2)
    policy = load(config)
    batch = random_batch(policy)
    step = build_step(policy, config, "train")
    state = step.init(policy.params)
    for n in range(2):
        rows = jax.tree.map(lambda x, n=n: x[n::2], batch)
        state, _ = step.update(state, rows)
    params, rows = updated(optimizer__minibatches=2)
    assert is_same(params, jax.tree.leaves(state.params)) and len(rows) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"optimizer__minibatches": 2}, {"optimizer__updates_per_rollout": 2}, {"loss__ratio": "sequence"},
        {"loss__policy_loss": "cispo"},
        {"loss__policy_loss": "dual_clip", "loss__dual_clip": 1.001, "loss__clip_low": 0.01},
        {"loss__aggregate": "responses"}, {"loss__aggregate": "constant"}, {"loss__clip_low": 0.01},
        {"loss__clip_high": 0.01}, {"rollout__temperature": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_changes_the_update(change):
    assert not is_same(updated()[0], updated(**change)[0])


@pytest.mark.slow  # logprobs_test has the log-probs of SFT
def test_sft_ignores_the_temperature():
    """Text is imitated at temperature 1, in the stage of its own and in the SFT term of the loss."""
    alone = {"loss__alpha": 0.0, "loss__beta": 0.0, "loss__gamma": 1.0}
    cold, plain = (updated(rollout__temperature=t, **alone) for t in (0.25, 1.0))
    assert is_same(cold[0], plain[0]) and cold[1][0]["loss/sft"] == plain[1][0]["loss/sft"]
    assert cold[1][0]["policy/entropy"] < plain[1][0]["policy/entropy"]


def test_recomputed_logprobs_are_the_trainers_own():
    """The ratio is then 1 before the first update, and the weights are those of the sampler's log-probs."""
    config = tiny.get_config(loss__old_logprobs="recomputed", loss__importance_cap=1.1)
    policy = load(config)
    batch = random_batch(policy)
    recompute = make_rollout_functions(policy, config).recompute_logprobs
    recomputed = recompute(policy.params, batch)
    ratio = jnp.exp(recomputed.old_logprob_bt - batch.old_logprob_bt)
    mask = np.array(batch.full_mask_bt)
    np.testing.assert_allclose(np.array(recomputed.sampler_weight_bt)[mask], np.minimum(ratio, 1.1)[mask], rtol=1e-5)
    state, update = build_update(policy, config, "train")
    _, (row,) = update(state, recomputed)
    assert row["ratio/mean"] == pytest.approx(1, abs=1e-5)
    no_weights = tiny.get_config(loss__old_logprobs="recomputed", loss__importance_cap=0.0)
    assert make_rollout_functions(policy, no_weights).recompute_logprobs(load(config).params, batch)[-1] is None


def test_keys_of_different_purposes_differ():
    """For equal seeds and steps, and for neighboring ones."""
    keys = {
        tuple(np.array(jax.random.key_data(jax.random.fold_in(purpose_key(seed, purpose), step))).tolist())
        for seed in range(4)
        for purpose in PURPOSES
        for step in range(8)
    }
    assert len(keys) == 4 * len(PURPOSES) * 8


@pytest.fixture(scope="module")
def run_rows(tmp_path_factory):
    """Train with every option of the loop on; a row of metrics after every second step."""
    workdir = tmp_path_factory.mktemp("options")
    config = tiny.get_quickstart(
        steps=4,
        log__every=2,
        log__transcripts_every=1,
        rollout__max_resamples=1,
        rollout__temperature=1.2,
        optimizer__minibatches=2,
        loss__old_logprobs="recomputed",
        reward__credit_level="step",
        reward__terminator="event",
        reward__outcomes={
            "accuracy": 1.0,
            "format": 1.0,
            "overlong": 1.0,
            "repetition": 0.1,
            "language": 0.1,
            "steps": 0.1,
        },
        reward__outcome_args__overlong_buffer=8,
        reward__reading="lenient",
    )
    config.reward.credit_args.update(drawdown=0.5, step_price=0.01)
    train.run(config, str(workdir), mode="train", devices=jax.devices()[:1])
    return workdir, metrics.read_metrics(str(workdir))[1]


@pytest.mark.slow
def test_all_options_together(run_rows):
    workdir, rows = run_rows
    assert [row["step"] for row in rows] == [0, 2, 4, 4]
    row = rows[1]
    assert 1 <= row["rollout/rollouts"] <= 2
    assert 0 <= row["rollout/groups_replaced"] <= 8 and row["rollout/groups_without_signal"] <= 8
    assert row["ratio/mean"] == pytest.approx(1, abs=0.2) and np.isfinite(row["loss/total"])
    lines = (workdir / "transcripts" / "step_000001.jsonl").read_text().splitlines()
    assert lines and all(json.loads(line)["ell_k"] for line in lines)


def test_a_row_is_the_mean_over_its_steps():
    class NoVerifier:
        restarts = 0

    window = metrics.LogWindow(NoVerifier())
    for tokens, accuracy, norms in ((10.0, 0.25, [1.0, 3.0]), (30.0, 0.75, [5.0, 7.0])):
        rollout = {"rollout/tokens": tokens, "verifier/timeouts": 1.0, "reward/accuracy": accuracy, "time/rollout": 0.0}
        rollout |= {"reward/process_if_wrong": accuracy} if tokens == 10.0 else {}
        updates = [{"gradient/norm": jnp.float32(norm), "gradient/skipped": jnp.int32(norm)} for norm in norms]
        window.add(rollout, updates)
    resumed = metrics.LogWindow(NoVerifier())
    resumed.restore(json.loads(json.dumps(window.state())))
    row, again = window.summary(), resumed.summary()
    assert {k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} == {
        k: v for k, v in again.items() if not k.startswith(("time/", "memory/"))
    }, "a resumed run has the same row"
    assert row["reward/accuracy"] == 0.5 and row["gradient/norm"] == 4.0 and row["verifier/timeouts"] == 2
    assert row["gradient/skipped"] == 7, "a counter has its last value"
    assert row["reward/process_if_wrong"] == 0.25, "a mean over the steps that have it"
    assert row["rollout/tokens"] == 20
