"""One run with a reward, a loss, an advantage, a credit rule and a writer from a user's file; then all that follows."""

import json

import jax
import pytest

import mig_jax
from mig_jax import parts
from mig_jax.errors import UserError
from mig_jax.trainer import train
from mig_jax.trainer.export import export
from tests import tiny

# Each part is what a user writes: a function or a class of a few lines.
OWN = """
import jax.numpy as jnp
from mig_jax.rewards import Credit

def shortness(sample):
    return -sample.n_tokens / sample.max_tokens

def reinforce(ratio_bt, logprob_bt, advantage_bt, settings):
    return ratio_bt * advantage_bt, jnp.zeros_like(ratio_bt, bool)

def over_median(reward_qg, valid_qg):
    return jnp.where(valid_qg, reward_qg - jnp.median(reward_qg, axis=1, keepdims=True), 0.0)

def last_step(group):
    is_last_gk = group.valid_gk[:, 1:] & ~jnp.pad(group.valid_gk[:, 2:], ((0, 0), (0, 1)))
    gain_gk = jnp.where(is_last_gk, jnp.diff(group.ell_gk), 0.0)
    return Credit(gain_gk.sum(1), gain_gk)

class Csv:
    def __init__(self, workdir, config, resume_step):
        self.file = open(f"{workdir}/metrics.csv", "a")

    def write(self, step, row):
        print(step, row.get("reward/shortness"), sep=",", file=self.file, flush=True)

    def close(self):
        self.file.close()
"""


@pytest.fixture
def forget(monkeypatch):
    """Return a function that makes this process forget what it has loaded, as a new one."""

    def forget():
        monkeypatch.setattr(parts, "_modules", {})
        monkeypatch.setattr(parts, "_copies", {})

    return forget


@pytest.mark.slow
def test_a_run_with_own_parts_can_be_trained_resumed_evaluated_scored_and_exported(
    tmp_path, monkeypatch, forget, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(OWN)
    config = tiny.get_config(eval__at_start=False, eval__at_end=False, log__profile_steps=(2,))
    config.reward.outcomes = {"accuracy": 1.0, "format": 1.0, "mine.py:shortness": 0.5}
    config.reward.credit, config.reward.advantage = "mine.py:last_step", "mine.py:over_median"
    config.loss.policy_loss, config.log.writers = "mine.py:reinforce", ("tensorboard", "mine.py:Csv")
    run = mig_jax.train(config, "run")
    assert [row["step"] for row in run.metrics] == [1, 2] and all(
        -1 <= row["reward/shortness"] < 0 for row in run.metrics
    )
    assert all(row["gradient/norm"] > 0 and row["reward/shortness_failed"] == 0 for row in run.metrics)
    assert [line.split(",")[0] for line in (tmp_path / "run/metrics.csv").read_text().split()] == ["1", "2"]
    assert list((tmp_path / "run/profile").rglob("*.xplane.pb"))
    assert all(-1 <= transcript.rewards["shortness"] < 0 for transcript in run.transcripts)
    card = (tmp_path / "run/model/README.md").read_text()
    assert "0.5 mine.py:shortness" in card and str(tmp_path) not in card.split("policy loss")[1].split("\n")[0]

    # From another folder, with the file gone: the copies are used.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "mine.py").unlink()
    forget()
    model = str(tmp_path / "run/model")
    assert mig_jax.evaluate(model, "eval", **{"eval.scored": 2}).results
    (scored, *_) = mig_jax.score(
        model, [{"question": "1 + 1 = ?", "response": "<think>\n### Step 1: 2\n", "answer": "2"}]
    )
    assert len(scored.gain_k) == 1
    assert "mine.py is gone; reward.credit uses the run's copy" in capsys.readouterr().err
    forget()
    assert export(str(tmp_path / "run"), devices=jax.devices()[:1]).step == 2
    assert (tmp_path / "run/model_step_2/parts/mine.py").read_text() == OWN
    forget()
    stored = json.loads((tmp_path / "run/model/mig_jax_config.json").read_text())
    assert f"{tmp_path}/mine.py:shortness" in stored["reward"]["outcomes"]
    resumed = mig_jax.load_config(config, steps=3)
    resumed.reward.update(stored["reward"] | {"credit_args": resumed.reward.credit_args})
    resumed.loss.policy_loss, resumed.log.writers = stored["loss"]["policy_loss"], tuple(stored["log"]["writers"])
    train.run(resumed, str(tmp_path / "run"), mode="train")
    assert "uses the run's copy" in capsys.readouterr().err

    # The file is back, but another one.
    forget()
    (tmp_path / "mine.py").write_text(OWN + "\n# changed\n")
    resumed.steps = 4
    train.run(resumed, str(tmp_path / "run"), mode="train")
    assert capsys.readouterr().err.count("mine.py has changed since") == 1
    assert "# changed" in (tmp_path / "run/parts/mine.py").read_text()

    # Nothing is left: what needs no part works, what needs one names it.
    forget()
    (tmp_path / "mine.py").unlink()
    for folder in ("run/parts", "run/model/parts", "run/model_step_2/parts"):
        (tmp_path / folder / "mine.py").unlink()
    assert mig_jax.evaluate(model, "eval_without", **{"eval.scored": 0}).results
    assert export(str(tmp_path / "run"), devices=jax.devices()[:1], output=str(tmp_path / "other")).step == 4
    with pytest.raises(UserError, match=r"reward.credit='.*mine.py:last_step': no such file: .*; restore it"):
        mig_jax.score(model, [{"question": "1 + 1 = ?", "response": "2", "answer": "2"}])
