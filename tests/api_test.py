"""The Python interface, used as in a notebook: no flags, a running event loop, several runs in one process."""

import asyncio
import json
import os
import re

import jax
import pytest
from absl import flags
from matplotlib.figure import Figure
from PIL import Image

import mig_jax
from mig_jax import commands
from mig_jax.errors import UserError
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.text.response_format import render_response
from tests import tiny

QUESTION = "Last digits of 7 +5 -3 *3 +8 -2 +6"
RIGHT = render_response(["7+5=2", "2-3=9", "9*3=7", "7+8=5", "5-2=3", "3+6=9"], "297539")
WRONG = render_response(["7+5=2", "2-3=8", "8*3=4", "4+8=2", "2-2=0", "0+6=6"], "284206")
ROWS = [{"question": QUESTION, "response": text, "answer": 297539} for text in (RIGHT, WRONG)]
OVERRIDES = {"data": {"eval_size": 4}, "eval": {"batch_size": 4, "scored": 2}, "verifier": {"workers": 1}}


@pytest.fixture(autouse=True, scope="module")
def one_device():
    """Use one device: eight fake ones on two cores are slow, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: 1)
        yield


def shown(value) -> dict[str, str | bytes]:
    """Return what a notebook shows for the value of a cell, by MIME type."""
    try:
        from IPython.core.formatters import DisplayFormatter
    except ImportError:
        names = {"text/html": "_repr_html_", "text/markdown": "_repr_markdown_", "image/png": "_repr_png_"}
        return {kind: getattr(value, name)() for kind, name in names.items() if hasattr(value, name)}
    return DisplayFormatter().format(value)[0]


def in_event_loop(function, *arguments, **options):
    """Call a function as a notebook does: while the event loop of its kernel runs."""

    async def call():
        return function(*arguments, **options)

    return asyncio.run(call())


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_device):
    """Return a run of two steps, made before any flags were parsed."""
    workdir, were_parsed = tmp_path_factory.mktemp("run"), flags.FLAGS.is_parsed()
    flags.FLAGS.unparse_flags()
    run = in_event_loop(mig_jax.train, tiny.get_quickstart(), workdir, steps=2, data={"eval_size": 4})
    if were_parsed:  # by another test
        flags.FLAGS.mark_as_parsed()
    return run


@pytest.fixture(scope="module")
def policy(run):
    return mig_jax.load_policy(run.model)


def test_names_are_offered():
    assert {*mig_jax.__all__} <= {*dir(mig_jax)}
    assert all(getattr(mig_jax, name) is not None for name in mig_jax.__all__)
    assert mig_jax.configs.quickstart.get_config().steps == 50
    for module, name in ((mig_jax, "trian"), (mig_jax.configs, "quikstart")):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_training_returns_what_it_wrote(run):
    assert [row["step"] for row in run.metrics] == [0, 1, 2, 2]
    assert run.metrics[-1]["eval/greedy"] >= 0.5 and run.config["data"]["eval_size"] == 4
    assert run.accuracy.startswith("held-out accuracy (start → end): sampled")
    assert len(run.transcripts) > 1 and run.transcripts[0].gain_k
    curves, page = run.curves(), shown(run)["text/html"]
    assert isinstance(curves, Figure) and shown(curves)["image/png"]
    assert run.accuracy in page and "data:image/png;base64," in page
    for name in ("curves.png", "gains_first.png", "gains_last.png"):
        with Image.open(os.path.join(run.workdir, name)) as picture:
            assert picture.format == "PNG" and min(picture.size) > 100, name


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(run):
    again = mig_jax.train(tiny.get_quickstart(), run.workdir, steps=2, data={"eval_size": 4})
    assert again == run and again.metrics == run.metrics


@pytest.mark.slow
def test_a_second_run_in_the_process_and_an_interrupted_one(tmp_path, monkeypatch):
    """The interrupted run resumes after its last checkpoint."""
    from mig_jax.trainer.run_state import RunState

    step = RunState.step

    def interrupt(self):
        if self.done == 1:
            raise KeyboardInterrupt
        return step(self)

    options = {"mode": "sft", "steps": 2, "checkpoint": {"every": 1}}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunState, "step", interrupt)
        in_event_loop(mig_jax.train, tiny.get_config(), tmp_path, **options)
    with pytest.raises(UserError, match="has no model yet"):
        _ = mig_jax.Run(str(tmp_path)).model
    resumed = in_event_loop(mig_jax.train, tiny.get_config(), tmp_path, **options)
    assert [row["step"] for row in resumed.metrics] == [0, 1, 2, 2] and resumed.model


def test_scores_are_those_of_the_command_and_shown(run, policy, tmp_path):
    scored = in_event_loop(mig_jax.score, policy, ROWS, verifier={"workers": 1})
    assert [t.is_correct for t in scored] == [True, False] and sum(scored[0].gain_k) > sum(scored[1].gain_k)
    write_transcripts([Transcript(QUESTION, text, "297539") for text in (RIGHT, WRONG)], str(tmp_path / "in.jsonl"))
    config = mig_jax.load_config("quickstart", model={"path": run.model}, verifier={"workers": 1})
    commands.score(config, str(tmp_path / "in.jsonl"), str(tmp_path / "out"))
    assert read_transcripts(str(tmp_path / "out" / "scores.jsonl")) == scored
    assert shown(scored)["text/html"].count("<article>") == 2
    assert "✓ right" in shown(scored[0])["text/html"] and "✗ wrong" in shown(scored[1])["text/html"]
    assert shown(scored.figure())["image/png"]


def test_a_path_a_loaded_policy_and_a_config_score_alike(run, policy, tmp_path):
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    by_policy = mig_jax.score(policy, ROWS, verifier={"workers": 1})
    by_path = mig_jax.score(run.workdir, tmp_path / "in.jsonl", **{"verifier.workers": 1})
    by_config = mig_jax.score(mig_jax.load_config("quickstart", model={"path": run.model}), by_policy)
    assert by_path == by_config == by_policy
    (tmp_path / "renamed.csv").write_text(f'question,text,answer\n{QUESTION},"{RIGHT}",297539\n')
    renamed = mig_jax.score(policy, tmp_path / "renamed.csv", data={"columns": {"response": "text"}})
    assert renamed[0].gain_k == pytest.approx(by_policy[0].gain_k, abs=1e-4)
    assert mig_jax.score(policy, []) == []


@pytest.mark.slow
def test_responses_without_any_step_have_the_likelihood_before_the_first(policy):
    scored = mig_jax.score(policy, [{"question": QUESTION, "response": "297539", "answer": "297539"}] * 2)
    with_steps = mig_jax.score(policy, ROWS)
    assert all(t.gain_k == () and t.ell_k == pytest.approx(with_steps[0].ell_k[:1], abs=1e-4) for t in scored)
    assert "297539" in shown(scored)["text/html"]


def test_evaluation_returns_its_tables(run, policy, tmp_path, capsys):
    evaluation = in_event_loop(mig_jax.evaluate, policy, tmp_path, **OVERRIDES)
    (source,) = evaluation.results
    assert evaluation.results[source]["problems"] == 4 and f"| {source} " in str(evaluation)
    assert shown(evaluation)["text/markdown"] == str(evaluation) == (tmp_path / "results.md").read_text()
    assert sum(bool(t.gain_k) for t in evaluation.transcripts(source)) == 2
    assert evaluation.page(source).endswith("transcripts.html")
    with pytest.raises(UserError, match="'gsm8k' was not evaluated, but chain"):
        evaluation.page("gsm8k")
    # The command resumes it, and finds nothing left to do.
    commands.evaluate(mig_jax.load_config(policy.run_config, **OVERRIDES), str(tmp_path))
    assert str(evaluation) in capsys.readouterr().out


@pytest.mark.slow
def test_evaluation_of_named_benchmarks(policy, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "297539"}))
    source = f"jsonl:{tmp_path}/rows.jsonl"
    evaluation = mig_jax.evaluate(policy, tmp_path / "out", benchmarks=[source, "chain:terms=7"], **OVERRIDES)
    assert list(evaluation.results) == [source, "chain:terms=7"]
    assert len(evaluation.transcripts(source)) == 2


def test_configs_are_copied_and_changed():
    base = mig_jax.load_config("quickstart")
    changed = mig_jax.load_config(
        base, steps=3, rollout={"group_size": 4}, **{"loss.alpha": 0, "model.lora.modules": ["attention/q"]}
    )
    assert (changed.steps, changed.rollout.group_size, changed.loss.alpha) == (3, 4, 0.0)
    assert changed.model.lora.modules == ("attention/q",) and changed.rollout.questions == base.rollout.questions
    assert base == mig_jax.configs.quickstart.get_config()
    assert mig_jax.load_config() == mig_jax.configs.default.get_config()


def test_a_config_file_is_loaded_like_that_of_the_command(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from mig_jax.configs import default\n\n\ndef get_config():\n    c = default.get_config()\n    c.steps = 7\n"
        "    return c\n"
    )
    assert mig_jax.load_config(tmp_path / "mine.py").steps == 7
    (tmp_path / "mine.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError, match="mine.py:2: division by zero"):
        mig_jax.load_config(tmp_path / "mine.py")


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"rollout": {"gruop_size": 4}}, "no rollout.gruop_size: did you mean rollout.group_size?"),
        (
            {"rollout.gruop_size": 4, "stepz": 1},
            "did you mean rollout.group_size?; the config has no stepz: did you mean",
        ),
        ({"loss": {"kappa": 1.0}}, "it is now called loss.kl_coef"),
        ({"rollout": 4}, "rollout is a section"),
        ({"steps": {"every": 4}}, "no steps.every"),
        ({"rollout": {"group_size": 4.5}, "steps": "3"}, "group_size=4.5: must be of type int; steps='3': must be"),
    ],
)
def test_wrong_overrides_are_reported_as_by_the_command(overrides, message):
    with pytest.raises(UserError, match=re.escape(message)):
        mig_jax.load_config("quickstart", **overrides)


def test_wrong_arguments_are_user_errors(policy, tmp_path):
    cases = {
        "did you mean --config=quickstart": lambda: mig_jax.train("quikstart", tmp_path),
        "the config lacks .* start from mig_jax.load_config": lambda: mig_jax.train(
            type(mig_jax.load_config())({"steps": 1}), tmp_path
        ),
        "rollout.group_size=1: an advantage compares": lambda: mig_jax.train(
            "quickstart", tmp_path, **{"rollout.group_size": 1}
        ),
        'mode=\'rl\': must be "train" or "sft"': lambda: mig_jax.train("quickstart", tmp_path, mode="rl"),
        "workdir=gs://bucket/run: remote paths": lambda: mig_jax.train("quickstart", "gs://bucket/run"),
        "row 1: no text in response, answer": lambda: mig_jax.score(policy, [{"question": "1?"}]),
        "is loaded already: give model.path to load_policy": lambda: mig_jax.score(policy, [], **{"model.path": "x"}),
        "must be a folder with a config.json": lambda: mig_jax.evaluate(tmp_path / "gone", tmp_path / "out"),
    }
    for message, call in cases.items():
        with pytest.raises(UserError, match=message):
            call()
