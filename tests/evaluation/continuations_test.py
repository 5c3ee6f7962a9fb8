"""Monte-Carlo values of started responses."""

import dataclasses

import jax
import pytest

from mig_jax import api, assets
from mig_jax.data.problem import Problem
from mig_jax.evaluation.continuations import _states, continuation_values
from mig_jax.policy.prompts import encode_prompt
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import render_response
from tests import tiny

QUESTION = "Last digits of 7 +5 -3 *3 +8 -2 +6"
RIGHT = Transcript(
    question=QUESTION,
    response=render_response(["7+5=2", "2-3=9", "9*3=7", "7+8=5", "5-2=3", "3+6=9"], "297539"),
    answer="297539",
    kind="text",
)
SLIPPED = Transcript(
    question=QUESTION,
    response=render_response(["7+5=2", "2-3=8", "8*3=4", "4+8=2", "2-2=0", "0+6=6"], "284206"),
    answer="297539",
    kind="text",
)


@pytest.fixture(scope="module")
def opened():
    config = api.config_of(assets.QUICKSTART, {"rollout": {"max_new_tokens": 90}, "verifier": {"workers": 1}})
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: 1)
        with api.open_policy(config, mode="score") as (policy, verifier):
            yield policy, config, verifier


def test_states_are_those_that_probes_see(opened):
    policy, config, _ = opened
    states = _states(policy, config, 3, RIGHT)
    texts = [policy.tokenizer.decode_with_ends(state.begun)[0] for state in states]
    assert [(state.row, state.k) for state in states] == [(3, k) for k in range(7)]
    assert texts[:3] == ["<think>\n", "<think>\n### Step 1: 7+5=2\n", "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n"]
    prompt = encode_prompt(policy, Problem("3", QUESTION, "297539", "text"))
    assert all(state.prompt == prompt for state in states)
    assert continuation_values(*opened[:2], [], opened[2]) == []


@pytest.mark.slow
def test_responses_to_pictures_are_continued():
    """A policy with random parameters is never right, but every state has a value."""
    config = tiny.get_scenes()
    sampled = api.sample(config, limit=1)
    given = dataclasses.replace(sampled[0], response=render_response(["one cube", "two cubes"], "2"))
    (values,) = api.values(config, [given], samples=2, states_per_batch=8)
    assert sampled[0].images and values == (0.0,) * 3


@pytest.mark.slow
def test_values_follow_what_is_right_so_far(opened):
    """A policy that rarely slips finishes a right start, and never mends a slip."""
    policy, config, verifier = opened
    values = continuation_values(policy, config, [RIGHT, SLIPPED], verifier, samples=16, states_per_batch=4, seed=1)
    again = continuation_values(policy, config, [RIGHT, SLIPPED], verifier, samples=16, states_per_batch=4, seed=1)
    right, slipped = values
    assert len(right) == len(slipped) == 7 and values == again
    assert right[-1] == 1.0 and right[-1] >= right[0]
    assert slipped[2:] == (0.0,) * 5 and slipped[1] > 0
