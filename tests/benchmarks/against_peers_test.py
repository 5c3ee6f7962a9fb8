"""The turns with a fake worker, the model folder read by our side, and whole steps beside ourselves."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

FAKE = """
import sys
sys.path.insert(0, {folder!r})
from protocol import Channel
channel = Channel()
print("noise of a library")
def work():
    channel.lap("rollout")
    channel.lap("update")
channel.serve(work)
"""


@pytest.fixture
def against_peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import against_peers

    return against_peers


def fake_worker(path, text):
    """Return the command of a side whose worker is this program."""
    path.write_text(text)
    return [sys.executable, str(path), "side", "{}"]


def test_sides_take_turns(against_peers, tmp_path):
    command = fake_worker(tmp_path / "fake.py", FAKE.format(folder=str(BENCHMARKS / "peers")))
    laps = against_peers.take_turns({"ours": command, "tunix": command}, warm_up=1, rounds=2)
    assert [len(rounds) for rounds in laps.values()] == [2, 2]
    lap = laps["tunix"][0]
    assert lap["wall"] == pytest.approx(lap["rollout"] + lap["update"]) and lap["peak_mib"] > 1
    assert lap["cpu"] == pytest.approx(lap["rollout_cpu"] + lap["update_cpu"])


def test_a_worker_that_fails_shows_what_it_printed(against_peers, tmp_path):
    command = fake_worker(tmp_path / "fake.py", "raise SystemExit('no such model')")
    with pytest.raises(SystemExit, match="side ended with code 1:\nno such model"):
        against_peers.take_turns({"ours": command}, warm_up=1, rounds=1)


def test_report_gives_theirs_over_ours(against_peers, capsys):
    rounds = {"ours": (1, 2, 4), "trl": (3, 4, 6)}
    laps = {side: [{"wall": x, "cpu": 2 * x, "peak_mib": 100.0} for x in seconds] for side, seconds in rounds.items()}
    against_peers.report("logprobs", laps)
    cells = capsys.readouterr().out.splitlines()[-1].split("  ")
    ratios = ["trl / ours", "2.00 (1.50–3.00)", "2.00 (1.50–3.00)", "1.00 (1.00–1.00)"]
    assert [cell.strip() for cell in cells if cell] == ratios


@pytest.mark.parametrize("flags, message", [
    (["--what=steps"], "steps: choose from step, logprobs"),
    (["--large_rows=12"], "must be a multiple of --group_size"),
])  # fmt: skip
def test_wrong_arguments_are_refused(against_peers, capsys, flags, message):
    with pytest.raises(SystemExit):
        against_peers.parse_args(flags)
    assert message in capsys.readouterr().err


def test_sides_without_a_python_are_left_out(against_peers):
    args = against_peers.parse_args(["--trl_python=/trl", '--trl_options={"bf16": false}', "--before=/old"])
    commands = against_peers.make_commands(args, {"kind": "step", "checkout": "/new"})
    assert list(commands) == ["ours", "before", "trl"] and commands["trl"][0] == "/trl"
    assert json.loads(commands["trl"][-1])["options"] == {"bf16": False}
    assert [json.loads(command[-1])["checkout"] for command in commands.values()] == ["/new", "/old", "/new"]


def test_prompts_have_the_tokens_that_they_should(against_peers, tmp_path):
    from transformers import AutoTokenizer

    from mig_jax.models.huggingface import config as hf_config

    folder = against_peers.write_model(tmp_path / "model", layers=1, width=64, vocab=512)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 512 == hf_config.read_config(folder).vocab_size
    prompts = against_peers.draw_prompts(3, 20)
    assert [len(ids) for ids in tokenizer(prompts)["input_ids"]] == [20, 20, 20] and len(set(prompts)) == 3


@pytest.mark.slow
def test_our_side_works_in_its_own_process(against_peers, capsys):
    """A step, log-probs and an update, without peers; no sample ends early."""
    against_peers.main([
        "--what=step,logprobs,update", "--questions=2", "--group_size=2", "--large_rows=2", "--prompt=16",
        "--response=8", "--layers=1", "--width=64", "--vocab=512", "--large_vocab=600", "--rounds=1",
        "--large_rounds=1", "--warm_up=1",
    ])  # fmt: skip
    assert capsys.readouterr().out.count("\nours ") == 3
