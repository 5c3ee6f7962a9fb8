"""The command line as users type it: what it prints, what it writes, and how it refuses."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from mig_jax.configs import default

import mig_jax
from mig_jax import commands, config_sources, main
from mig_jax.config_file import check_config_file
from mig_jax.data.builders import BENCHMARKS
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.policy.load import find_run_config, load_policy
from mig_jax.policy.save import save_policy
from mig_jax.records import transcripts
from mig_jax.studies import runner
from mig_jax.text import response_format
from mig_jax.trainer import train
from tests import tiny

ROOT = Path(__file__).parent.parent
QUICKSTART = "--config=configs/quickstart.py"
QUESTION = "Last digits of 7 +5 -3 *3 +8 -2 +6"
RIGHT = response_format.render_response(["7+5=2", "2-3=9", "9*3=7", "7+8=5", "5-2=3", "3+6=9"], "297539")
WRONG = response_format.render_response(["7+5=2", "2-3=8", "8*3=4", "4+8=2", "2-2=0", "0+6=6"], "284206")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Use one device: eight fake ones on two cores are slow, and are tested elsewhere."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def run_cli(*arguments):
    """Run a command in this process, which has imported everything: a new one takes seconds for that."""
    out, err = io.StringIO(), io.StringIO()
    with (
        flagsaver.flagsaver(),
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", ["mig-jax", *map(str, arguments)]),
        mock.patch.dict(os.environ),
        warnings.catch_warnings(action="ignore"),  # of ml_collections; a command shows none
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main.run_command(main.parse_arguments(sys.argv))
            code = 0
        except SystemExit as error:
            code = error.code or 0
            if isinstance(code, str):  # as Python does
                print(code, file=sys.stderr)
                code = 1
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def run_process(*arguments):
    command = [sys.executable, "-m", "mig_jax.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_score_writes_numbers_and_pictures(tmp_path):
    rows = [transcripts.Transcript(QUESTION, text, "297539") for text in (RIGHT, WRONG)]
    rows.append(transcripts.Transcript(QUESTION, "I do not know <think", "297539"))
    transcripts.write_transcripts(rows, str(tmp_path / "in.jsonl"))
    commands.score(tiny.get_quickstart(), str(tmp_path / "in.jsonl"), str(tmp_path / "out"))
    right, wrong, lost = transcripts.read_transcripts(str(tmp_path / "out" / "scores.jsonl"))
    assert (right.is_correct, wrong.is_correct, lost.is_correct) == (True, False, False)
    assert right.steps[:2] == ("### Step 1: 7+5=2", "### Step 2: 2-3=9") and len(right.steps) == 6
    # Up to the slip the prefixes are equal; from there on the right chain has the higher likelihood.
    np.testing.assert_allclose(right.ell_k[:2], wrong.ell_k[:2], atol=1e-5)
    assert right.ell_k[6] > -0.1 and wrong.ell_k[6] < -1 and sum(right.gain_k) > sum(wrong.gain_k)
    assert len(lost.ell_k) == 1 and lost.gain_k == ()
    for name in ("gains.png", "gains.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_what_is_scored_survives_a_kill(tmp_path, monkeypatch):
    """Batches are written as they are scored, shorter responses first; the whole file comes at the end."""
    rows = [{"messages": [{"role": "user", "content": QUESTION}], "output": WRONG + " " * n} for n in range(9)]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    config = tiny.get_quickstart()
    config.data.columns.update({"question": "messages", "response": "output", "answer": "=297539"})
    partial = tmp_path / "in_scores" / commands.PARTIAL_SCORES

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(commands, "write_transcripts", kill)
        commands.score(config, str(tmp_path / "in.json"), "", limit=8)
    kept = transcripts.read_transcripts(str(partial))
    assert [t.response for t in kept] == [row["output"] for row in rows[:8]] and all(t.gain_k for t in kept)
    commands.score(config, str(tmp_path / "in.json"), "", limit=2)
    scored = transcripts.read_transcripts(str(tmp_path / "in_scores" / "scores.jsonl"))
    assert [t.is_correct for t in scored] == [False, False] and not partial.exists()


def test_workdir_is_tried_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "open_policy", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    (tmp_path / "in.jsonl").write_text(json.dumps({"question": "1+1", "response": "2", "answer": "2"}))
    for command in (
        lambda: commands.score(tiny.get_quickstart(), str(tmp_path / "in.jsonl"), str(tmp_path / "file" / "out")),
        lambda: commands.sample(tiny.get_quickstart(), [], workdir=str(tmp_path / "file" / "out")),
    ):
        with pytest.raises(UserError, match="file/out' cannot be written"):
            command()


def test_sample_answers_questions_and_scores_known_ones(capsys, tmp_path):
    config = tiny.get_quickstart()
    commands.sample(config, [QUESTION], workdir=str(tmp_path))
    assert "gain" not in capsys.readouterr().out.replace("gains", "")
    assert json.loads((tmp_path / "samples.jsonl").read_text())["is_correct"] is None
    commands.sample(config, [QUESTION, QUESTION], ["297539", "1"], kind="text", workdir=str(tmp_path))
    printed = capsys.readouterr().out
    assert printed.count("Last digits of 7 +5") == 2 and printed.count("gain ") >= 2
    first, second = transcripts.read_transcripts(str(tmp_path / "samples.jsonl"))
    assert (first.answer, second.answer, second.is_correct, second.kind) == ("297539", "1", False, "text")
    assert first.gain_k and (tmp_path / "gains.html").exists()
    commands.sample(config, [], limit=3)
    printed = capsys.readouterr().out
    assert printed.count("reference answer") == 3 and printed.count("gain") >= 3


def test_sample_refuses_an_unknown_kind():
    with pytest.raises(UserError, match=r"kind='numbr': not one of number, .*did you mean number"):
        commands.sample(tiny.get_quickstart(), [QUESTION], ["1"], kind="numbr")


def test_model_is_prompted_as_it_was_trained(tmp_path):
    """Without --config, commands use that of the run that made the model; overrides still apply."""
    config = tiny.get_quickstart()
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    policy = load_policy(config.model, mesh, seed=0)
    save_policy(policy, policy.params, str(tmp_path / "model"), config=config)
    options = ["--config.data.eval_size=3", "--config.verifier.workers=1", "--config.eval.scored=0"]
    done = run_cli("eval", f"--config.model.path={tmp_path}", f"--workdir={tmp_path}/eval", *options)
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads((tmp_path / "eval" / "results.json").read_text())["sources"].values()
    assert figures["problems"] == 3 and figures["format"]["greedy"] > 0.9, "the default prompt would confuse it"
    assert f"are those of {tmp_path}/model/mig_jax_config.json" in done.stderr
    assert "| benchmark" in done.stdout and "transcripts.html" in done.stdout


def test_too_long_question_is_an_error():
    with pytest.raises(ValueError, match="data.max_prompt_tokens=42"):
        commands.sample(tiny.get_quickstart(), ["7" * 100])


@pytest.fixture
def short_model(tmp_path):
    """Return the folder of the quickstart's model with 100 positions."""
    folder = tmp_path / "short"
    shutil.copytree(tiny.get_quickstart().model.path, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 100}))
    return str(folder)


def test_sequences_beyond_the_positions_of_the_model_are_refused(short_model, tmp_path):
    config = tiny.get_quickstart(model__path=short_model, rollout__max_new_tokens=59)
    for command in (
        lambda: train.run(config, str(tmp_path), mode="train", devices=jax.devices()[:1]),
        lambda: train.run(config, str(tmp_path), mode="sft", devices=jax.devices()[:1]),
        lambda: commands.evaluate(config, str(tmp_path)),
        lambda: commands.sample(config, []),
        lambda: commands.sample(config, [QUESTION]),
        lambda: commands.variants(config, str(tmp_path)),
    ):
        with pytest.raises(
            UserError, match=r"data.max_prompt_tokens=42 plus rollout.max_new_tokens=59 is 101 tokens.* 100 positions"
        ):
            command()


def test_transcripts_beyond_the_positions_of_the_model_are_refused(short_model, tmp_path):
    """The limits of the run do not matter, only the real length."""
    config = tiny.get_quickstart(model__path=short_model, rollout__max_new_tokens=500)
    row = {"question": "1+1", "response": "7" * 200, "answer": "2"}
    (tmp_path / "long.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"the longest transcript with its prompt is 2\d\d tokens.* 100 positions"):
        commands.score(config, str(tmp_path / "long.jsonl"), str(tmp_path / "out"))
    (tmp_path / "short.jsonl").write_text(json.dumps(row | {"response": "### Step 1: 2</think><answer>2</answer>"}))
    commands.score(config, str(tmp_path / "short.jsonl"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "scores.jsonl").exists()


def test_data_lists_the_benchmarks(tmp_path):
    done = run_cli("data", f"--data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert f"✗ {tmp_path}/gsm8k/train.jsonl  from https://" in done.stdout and "license MIT" in done.stdout
    assert all(f"\n{name}: " in f"\n{done.stdout}" for name in BENCHMARKS)


def test_data_builds_a_benchmark_and_shows_it(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    row = {"question": "1+1?", "answer": "1+1=<<1+1=2>>2.\n#### 2"}
    (tmp_path / "gsm8k" / "test.jsonl").write_text(json.dumps(row))
    done = run_cli("data", "--benchmarks=gsm8k", f"--data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "gsm8k: 1 problems (1 number)" in done.stdout and "    1+1?\n    → 2" in done.stdout


def test_help_lists_the_commands():
    done = run_process("--help")
    assert done.returncode == 0 and "mig-jax score" in done.stdout and len(done.stdout.splitlines()) < 20


@pytest.mark.parametrize("arguments", [["score", "--help"], ["help", "score"]])
def test_help_of_a_command(arguments):
    done = run_cli(*arguments)
    assert done.returncode == 0 and "--input=FILE" in done.stdout and "--topology" not in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["train", QUICKSTART, "--config.rollout.gruop_size=4"],
            "mig-jax train: the config has no rollout.gruop_size: did you mean rollout.group_size? "
            "(help: mig-jax train --help)",
        ),
        (["train", QUICKSTART, "--config.rollout.group_size=many"], "rollout.group_size=many: must be an integer"),
        (["train", "--config=configs/nowhere.py", "--workdir=/tmp/x"], "nowhere.py"),
        (["train", QUICKSTART, "--config.zzz=4"], "the config has no zzz"),
        (["train"], "train needs --config=FILE.py and --workdir=DIR (help: mig-jax train --help)"),
        (["train", QUICKSTART, "--workdir="], "train needs --workdir=DIR (help: mig-jax train --help)"),
        (["trian"], "no command 'trian' (did you mean train?); give one of train, sft"),
        (["eval", "--config.rollout.gruop_size=4", "--workdir=/tmp/x"], "did you mean rollout.group_size?"),
        (["train", "--config=README.md", "--workdir=/tmp/x"], "README.md: must be a Python file (.py)"),
        (["train", QUICKSTART, "--config.loss.kappa=1"], "has no loss.kappa: it is now called loss.kl_coef"),
        (["train", QUICKSTART, "--config.rollout.group_size=4.5"], "group_size=4.5: must be an integer"),
        (["export"], "export needs --workdir=DIR"),
        (["export", "--workdir=/tmp/x", "--best", "--step=3"], "give --step or --best, not both"),
        (["export", "--workdir=/tmp/nowhere"], "/tmp/nowhere has no checkpoints; give the workdir of a run"),
        (["score"], "score needs --input=FILE (help"),
        (["train", QUICKSTART, "--workdir=/tmp/x", "--input=x"], "train has no flag --input"),
        (["train", QUICKSTART, "--workdir"], "Missing value for flag --workdir"),
        (["train", QUICKSTART, "--wrkdir=/tmp/x"], "Did you mean: workdir ?"),
        (["train", QUICKSTART, QUICKSTART, "--workdir=/tmp/x"], "--config is given 2 times"),
        (["train", "/tmp/x", QUICKSTART, "--workdir=/tmp/x"], "what is '/tmp/x'? Values of flags follow a '='"),
        (["train", QUICKSTART, "--config.eval.at_start=maybe"], "eval.at_start=maybe: must be True or False"),
        (["score", "--input=x", "--limit=many"], "limit=many: must be an integer"),
        (["sample", "--question=1+1", "--answer=2", "--answer=3"], "--answer is given 2 times, --question 1 times"),
        (["sample", "--kind=number"], "--kind needs --answer"),
        (["variants"], "variants needs --config=FILE.py and --workdir=DIR"),
        (["data", "--benchmarks=gsm9k"], "did you mean gsm8k"),
        (["data", "--benchmarks=aime_2025,svamp", "--data_dir=/tmp/nowhere"], "SVAMP.json is missing; published at"),
        (["eval", "--workdir=/tmp/x", "--benchmarks=gsm9k"], "unknown source 'gsm9k' (did you mean"),
        (["score", "--input=nowhere.jsonl"], "nowhere.jsonl"),
        (["train", QUICKSTART, "--workdir=/tmp/x", "--config.steps=0",
          "--config.reward.credit=none"], "\n  steps=0: must be more than 0"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_without_a_trace(arguments, message):
    done = run_cli(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert "Traceback" not in done.stderr


def test_a_mistake_ends_a_process():
    done = run_process("score", "--model=/tmp/nowhere", "--input=x", "--limit=many")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mig-jax score: limit=many: must be an integer (help: mig-jax score --help)\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n    pass\n", "config.py:1: invalid syntax"),
        ("x = 1\n", "config.py: has no function get_config"),
        ("def get_config():\n    return {}\n", "get_config returns a dict, not a ml_collections.ConfigDict"),
        ("def get_config():\n    return 1 / 0\n", "config.py:2: division by zero"),
        (
            "from mig_jax.configs import default\n\n\ndef get_config():\n    c = default.get_config()\n"
            "    c.loss.kappa = 0.1\n    return c\n",
            "config.py:6: the config has no 'kappa': it is now called loss.kl_coef",
        ),
        ("import sys\n\n\ndef get_config():\n    sys.exit(3)\n", "config.py:5: 3"),
        ("def get_config(name):\n    return name\n", "config.py: "),
        (
            "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({'steps': 1})\n",
            "config.py: get_config lacks checkpoint.every, ",
        ),
    ],
)
def test_wrong_config_file_is_explained_in_one_line(tmp_path, monkeypatch, text, message):
    (tmp_path / "config.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        check_config_file("config.py")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error, debug, expected",
    [
        (UserError("rows.jsonl is empty"), False, SystemExit),
        (UserError("rows.jsonl is empty"), True, UserError),
        (ValueError("max() arg is an empty sequence"), False, ValueError),
        (OSError("no such device"), False, OSError),
    ],
)
def test_only_user_errors_are_shown_without_a_trace(monkeypatch, error, debug, expected):
    """And with --debug they keep it, too. An error that leaves `run_command` is printed with its trace."""

    def fail(command, positional):
        raise error

    monkeypatch.setattr(main, "_dispatch", fail)
    monkeypatch.setattr(main, "DEBUG", SimpleNamespace(value=debug))
    with pytest.raises(expected) as caught:
        main.run_command(["score"])
    if expected is SystemExit:
        assert str(caught.value) == "mig-jax score: rows.jsonl is empty"


def test_model_of_an_earlier_version_is_refused_with_the_new_names(tmp_path):
    path = tmp_path / "mig_jax_config.json"
    path.write_text(json.dumps({"reward": {"assign": "step"}, "rollout": {}, "data": {}}))
    with pytest.raises(UserError, match=r"reward\.assign is now reward\.credit_level"):
        config_sources.apply_run_config(default.get_config(), str(path))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"data": {}, "rollout": {"group_size": "abc"}, "reward": {}}'])
def test_damaged_run_config_is_a_user_error(tmp_path, text):
    (tmp_path / "mig_jax_config.json").write_text(text)
    with pytest.raises(UserError, match="mig_jax_config.json"):
        config_sources.apply_run_config(default.get_config(), str(tmp_path / "mig_jax_config.json"))


def test_run_config_is_found_by_model_and_by_workdir(tmp_path):
    assert find_run_config("") is None and find_run_config(str(tmp_path)) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mig_jax_config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "model"):
        assert find_run_config(str(folder)) == f"{tmp_path}/model/mig_jax_config.json"


def test_paths_are_local_and_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        config_sources.local_path("--input", "~/in.jsonl") == f"{tmp_path}/in.jsonl"
        and config_sources.local_path("--input", None) == ""
    )
    with pytest.raises(UserError, match="--workdir=gs://bucket/run: remote paths are not supported"):
        config_sources.local_path("--workdir", "gs://bucket/run")


@pytest.mark.slow  # five processes
def test_home_is_expanded_in_every_option(tmp_path, monkeypatch):
    """And nothing is written to a folder named ~."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home"
    shutil.copytree(tiny.get_quickstart().model.path, home / "base")
    row = {"question": QUESTION, "answer": "297539", "kind": "text", "response": RIGHT}
    (home / "own.jsonl").write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n in range(8)))
    variants = {"id": "0", "source": "own", "answer": "297539", "variants": ["297 539"]}
    (home / "variants.jsonl").write_text(json.dumps(variants))
    (home / "own.py").write_text("from tests import tiny\n\n\ndef get_config():\n    return tiny.get_quickstart()\n")
    sources = ["--config.data.train=jsonl:~/own.jsonl", "--config.data.eval=jsonl:~/own.jsonl"]
    model = ["--config.model.path=~/base", "--config.model.tokenizer=~/base"]
    options = ["--config.data.variants=~/variants.jsonl", "--config.steps=1", "--config.eval.at_start=False"]
    for arguments in (
        ["train", "--config=~/own.py", "--workdir=~/run", "--data_dir=~/data", *sources, *model, *options],
        ["eval", "--model=~/run", "--workdir=~/eval", "--benchmarks=jsonl:~/own.jsonl"],
        ["score", "--model=~/run/model", "--config.model.tokenizer=~/run", "--input=~/own.jsonl"],
        ["export", "--workdir=~/run", "--output=~/exported", "--config.model.path=~/base"],
        ["data", "--data_dir=~/data"],
    ):
        done = run_process(*arguments)
        assert done.returncode == 0, done.stderr
    written = ("run/model", "eval/results.json", "own_scores/scores.jsonl", "exported/config.json")
    assert all((home / path).exists() for path in written)
    assert f"{home}/data/gsm8k" in done.stdout and not (ROOT / "~").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--config=gs://bucket/own.py", "--workdir=/tmp/x"], "--config=gs://bucket/own.py: remote paths"),
        (["data", "--data_dir=s3://bucket"], "data.dir=s3://bucket: remote paths are not supported"),
        (
            [
                *("train", QUICKSTART, "--workdir=/tmp/x", "--config.model.tokenizer=gs://bucket/model"),
                *("--data_dir=gs://bucket/data", "--config.data.variants=gs://bucket/variants.jsonl"),
                *("--config.data.train=jsonl:gs://bucket/own.jsonl", "--config.data.eval=chain:terms=7"),
            ],
            "model.tokenizer=gs://bucket/model: remote paths are not supported; give a local folder or file\n"
            "  data.dir=gs://bucket/data: remote paths are not supported; give a local folder or file\n"
            "  data.variants=gs://bucket/variants.jsonl: remote paths are not supported; give a local folder or file\n"
            "  data.train='jsonl:gs://bucket/own.jsonl': remote paths are not supported; give a local folder or file\n",
        ),
    ],
)
def test_remote_paths_are_refused_at_once(arguments, message):
    done = run_cli(*arguments)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_version_is_printed():
    done = subprocess.run([sys.executable, "-m", "mig_jax", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == f"mig-jax {mig_jax.__version__}"


def test_study_needs_a_name_and_a_workdir(tmp_path):
    listed = run_cli("study", "--list")
    assert listed.returncode == 0 and "sparse" in listed.stdout and "value_proxy" in listed.stdout
    for arguments, message in (
        (["study"], "study needs a name, as in mig-jax study sparse"),
        (["study", "sparse", "weights"], "2 studies are named: sparse, weights"),
        (["study", "sparse"], "study needs --workdir=DIR"),
        (["study", "spars", f"--workdir={tmp_path}"], "did you mean sparse"),
        (["study", "sparse", f"--workdir={tmp_path}", "--part=3/2"], "must be I/N"),
        (["study", "sparse", f"--workdir={tmp_path}", "--input=x"], "study has no flag --input"),
    ):
        refused = run_cli(*arguments)
        assert refused.returncode == 1 and message in refused.stderr


def test_study_runs_what_is_named(tmp_path, monkeypatch):
    """Flags reach the runner: a study of the user's own, seeds, overrides."""
    calls = []
    monkeypatch.setattr(runner, "run_study", lambda *args, **kwargs: calls.append((args, kwargs)))
    file = tmp_path / "mine.py"
    file.write_text("from mig_jax.studies.sparse import STUDY\n")
    flags = ["--seeds=2", "--smoke", "--only=mig,grpo", "--part=1/3", "--config.steps=7"]
    done = run_cli("study", f"{file}:STUDY", f"--workdir={tmp_path / 'out'}", *flags)
    assert done.returncode == 0, done.stderr
    (((study, workdir, plan), options),) = calls
    assert study.name == "sparse" and workdir == str(tmp_path / "out") and (plan.seeds, plan.smoke) == (2, True)
    assert (plan.config, plan.model, options["overrides"]) == ("", "", {"steps": 7})
    assert options["selection"].only == ["mig", "grpo"] and options["selection"].part == (1, 3)
