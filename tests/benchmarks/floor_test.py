"""Amounts by hand, and floors of rates that are given."""

import argparse

import pytest

from benchmarks import floor
from benchmarks.floor import Amounts, Rates, Seconds
from mig_jax.aot.flops import Work
from mig_jax.models.decoder import DecoderConfig

ARGS = argparse.Namespace(prompt=3, response=2, steps=2, variants=2, answer=1, questions=2, group_size=2)
SHAPE = DecoderConfig(vocab_size=11, width=8, layers=2, heads=2, kv_heads=1, head_size=4, mlp_width=6)


def test_amounts_by_hand():
    amounts = floor.count_amounts(ARGS, SHAPE, probe=4)
    # Two prompts of three tokens; four rows of two tokens, which see four and five.
    assert amounts["sampling"].work == Work(2 * 3 + 4 * 2, 2 * (1 + 2 + 3) + 4 * (4 + 5), 4 * 2)
    assert amounts["sampling"].memory_nbytes == 4 * (4 + 5) * 2 * 2 * 4 * 4  # keys and values, layers, size, bytes
    assert amounts["log-probs"].work == amounts["update"].work == Work(4 * 5, 4 * 15, 4 * 2)
    # Two cuts of four rows and the prompts' own, two variants, four tokens that see four of the trunk on average.
    assert amounts["scoring"].work == Work(20 * 4, 20 * (4 * 4 + 10), 20 * 2)


def test_floor_scales_what_was_measured():
    rates = Rates(SHAPE, ARGS)
    amounts = Amounts(Work(tokens=64, pairs=640, logits=32), at_once=16, logits_at_once=16, passes=3)
    for kind, size in rates.sizes(amounts):
        rates.laps[kind, size] = [Seconds(1.0 * rates.repeats(kind, size), 2.0 * rates.repeats(kind, size))]
    terms = rates.floor(amounts)
    # Matrices are measured for one of two layers; attention for 128 queries of 4 rows over 5 slots.
    assert terms["matrices"] == pytest.approx((3 * 2 * 64 / 16, 2 * 3 * 2 * 64 / 16))
    assert terms["logits"].wall == pytest.approx(3 * 32 / 16) and terms["exp"].wall == pytest.approx(32 / 16)
    assert terms["attention"].wall == pytest.approx(3 * 2 * 640 / (4 * 128 * 5)) and terms["memory"].wall == 0.0
