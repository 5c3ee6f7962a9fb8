"""FLOPs against loops that count them, parameters against published numbers, chips against their data sheets."""

import dataclasses
import functools
import json
import math

import jax
import pytest

from mig_jax import assets
from mig_jax.aot.flops import CHIPS, Chip, count_matrix_params, decode_seconds, step_flops, unused_expert_params
from mig_jax.models import decoder, qwen3_vl
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.experts import ExpertsConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.lora import LoraConfig
from mig_jax.models.qwen2_vl import VisionConfig
from tests import tiny

SHAPE = DecoderConfig(
    vocab_size=31, width=8, layers=3, heads=4, kv_heads=2, head_size=6, mlp_width=10, qkv_bias=True, tied_head=False
)


def get_config(**changes):
    """Return a config of two questions, three samples each; five prompt slots, four tokens, three cuts."""
    sizes = {"data__max_prompt_tokens": 5, "data__max_answer_tokens": 2, "rollout__max_new_tokens": 4}
    sizes |= {"rollout__questions": 2, "rollout__group_size": 3, "reward__max_steps": 2, "reward__max_variants": 2}
    return tiny.get_config(**sizes, **changes)


def matmul(rows, inputs, outputs):
    """Count the FLOPs of a matrix product, one multiplication and addition at a time."""
    return sum(2 for _ in range(rows) for _ in range(inputs) for _ in range(outputs))


def count_token_flops(shape, visible):
    """Count the FLOPs of one token through the layers of SHAPE, with `visible` tokens up to it."""
    queries, keys = 4 * 6, 2 * 6
    total = 0
    for layer in range(3):
        seen = visible if shape.window is None or layer in shape.full_layers else min(visible, shape.window)
        total += matmul(1, 8, queries) + 2 * matmul(1, 8, keys) + matmul(1, queries, 8) + 3 * matmul(1, 8, 10)
        total += sum(matmul(1, 6, 1) + matmul(1, 1, 6) for _ in range(4) for _ in range(seen))  # scores, then values
    return total


@pytest.mark.parametrize("terminator, ending", [("event", 1), ("tag", 3)])
@pytest.mark.parametrize("window", [None, 4])
def test_flops_of_every_program(window, terminator, ending):
    """The layers 0 and 2 have the window, if there is one. An answer ends with a token of any ending, or its tag."""
    shape = dataclasses.replace(SHAPE, window=window, full_layers=(1,) if window else ())
    token_flops = functools.partial(count_token_flops, shape)
    prompt, logits = range(5), matmul(1, 8, 31)
    expected = {
        "prefill": 2 * sum(token_flops(t + 1) for t in prompt),
        "decode": 6 * sum(token_flops(5 + t + 1) + logits for t in range(4)),
        "update": 3 * 6 * (sum(token_flops(t + 1) for t in range(5 + 4 - 1)) + 4 * logits),
    }
    # A leaf: six tokens of lead-in, two of answer, those of its ending. The last one is only predicted.
    # Those of the two questions come after the prompt, and write three tokens of the opening themselves.
    cuts, scored = [7, 9], 2 + ending
    # Both variants share what comes before the answer.
    branch = sum(token_flops(cut + p + 1) for cut in cuts for p in range(6))
    leaf = sum(token_flops(cut + p + 1) for cut in cuts for p in range(6, 6 + scored - 1))
    opening = sum(token_flops(5 + p + 1) for p in range(3 + 6))
    opened = sum(token_flops(5 + p + 1) for p in range(3 + 6, 3 + 6 + scored - 1))
    expected["score"] = 6 * (branch + 2 * (leaf + len(cuts) * scored * logits))
    expected["score"] += 2 * (opening + 2 * (opened + scored * logits))
    assert step_flops(get_config(reward__terminator=terminator), shape) == pytest.approx(expected)


def test_options_change_flops():
    plain = step_flops(get_config(), SHAPE)
    grpo = step_flops(get_config(loss__alpha=0.0, loss__kl_coef=0.1, optimizer__updates_per_rollout=2), SHAPE)
    assert "score" not in grpo
    assert grpo["reference"] * 3 == plain["update"] and grpo["update"] == 2 * plain["update"]
    assert step_flops(get_config(reward__terminator="tag"), SHAPE)["score"] > plain["score"]
    recomputed = step_flops(get_config(loss__old_logprobs="recomputed"), SHAPE)
    assert recomputed["recompute"] == grpo["reference"]
    adapted = step_flops(get_config(), dataclasses.replace(SHAPE, lora=LoraConfig(1, 1.0, ("up",))))
    # A = 8 × 1 and B = 1 × 10 in three layers, for 6 · 8 tokens; two thirds of the passes.
    assert adapted["update"] == plain["update"] * 2 / 3 + 2 * 6 * 8 * 3 * 2 * (8 + 10)


def test_experts_of_a_token_count_and_all_are_kept():
    """Two of four experts: a router, and as many FLOPs as an MLP of twice their width."""
    experts = dataclasses.replace(SHAPE, experts=ExpertsConfig(4, 2, 5, True))
    flops, dense = step_flops(get_config(), experts), step_flops(get_config(), SHAPE)
    assert flops["decode"] - dense["decode"] == pytest.approx(6 * 4 * 3 * matmul(1, 8, 4))
    sizes = count_matrix_params(experts)
    assert sizes.layers - sizes.per_token == 3 * 3 * 8 * 5 * 2 == unused_expert_params(experts)
    published = hf_config.read_config(assets.SHAPES / "qwen3_30b_a3b")
    params = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(published)))
    assert (params - unused_expert_params(published)) / 1e9 == pytest.approx(3.3, rel=0.02)


def test_decode_reads_the_experts_that_its_rows_choose():
    """One chip, six rows: an expert is read unless none of them chooses it."""
    experts = dataclasses.replace(SHAPE, experts=ExpertsConfig(4, 2, 5, True))
    chip = Chip(1.0, 1.0, 1e-9, "")
    seconds = [decode_seconds(get_config(), shape, chips=1, tensor=1, chip=chip) for shape in (experts, SHAPE)]
    read = 3 * 3 * 8 * 5 * 4 * (1 - 0.5**6)
    assert seconds[0] - seconds[1] == pytest.approx(4 * 4 * (3 * 8 * 4 + read - 3 * 3 * 8 * 10))


def test_flops_of_vision_tower():
    """Windows of 2 × 2 patches that are one merged unit; one layer with windows, one with full attention."""
    vision = VisionConfig(8, 2, 2, 12, (1,), patch_size=2, merge_size=2, window_size=4, temporal_patch_size=1)
    config = get_config(model__vision__max_patches=8, model__vision__freeze=False)
    slots, window = 8, 4
    patch = matmul(1, 3 * 2 * 2, 8)
    for seen in (window, slots):
        patch += (
            matmul(1, 8, 3 * 8) + matmul(1, 8, 8) + 3 * matmul(1, 8, 12) + seen * (matmul(1, 8, 1) + matmul(1, 1, 8))
        )
    merger = matmul(1, 4 * 8, 4 * 8) + matmul(1, 4 * 8, SHAPE.width)
    seeing = dataclasses.replace(SHAPE, vision=vision, rope_sections=(1, 1, 1))
    flops = step_flops(config, seeing)
    assert flops["encode_images"] == 2 * (slots * patch + slots // 4 * merger)
    assert flops["update"] == step_flops(config, SHAPE)["update"] + 3 * flops["encode_images"]


def test_flops_of_a_tower_with_deepstack():
    """One of two layers makes a feature of each unit, as the tower's end does; learned positions are looked up."""
    vision = qwen3_vl.VisionConfig(8, 2, 2, 12, (0,), learned_positions=9, patch_size=2, temporal_patch_size=1)
    slots, layers = 8, 2
    layer = matmul(1, 8, 3 * 8) + matmul(1, 8, 8) + 2 * matmul(1, 8, 12) + slots * 2 * matmul(1, 8, 1)
    patches = slots * (matmul(1, 3 * 2 * 2, 8) + layers * layer)
    mergers = 2 * slots // 4 * (matmul(1, 4 * 8, 4 * 8) + matmul(1, 4 * 8, SHAPE.width))
    seeing = dataclasses.replace(SHAPE, vision=vision, rope_sections=(1, 1, 1))
    flops = step_flops(get_config(model__vision__max_patches=slots), seeing)
    assert flops["encode_images"] == 2 * (patches + mergers)


def test_decode_reads_parameters_and_cache():
    config, chip = get_config(), Chip(1.0, 1.0, 1e-9, "")  # one byte per second
    layers = 3 * (8 * 24 * 2 + 2 * 8 * 12 + 3 * 8 * 10)
    cache = 2 * 3 * 2 * 6 * 6 * (5 + 4 / 2)
    seconds = decode_seconds(config, SHAPE, chips=4, tensor=2, chip=chip)
    assert seconds == pytest.approx(4 * 4 * ((layers + 8 * 31) / 2 + cache / 4))


@pytest.mark.parametrize(
    "name, billions",
    [("qwen2_5_3b", 3.09), ("qwen2_5_7b", 7.62), ("qwen2_5_32b", 32.8), ("qwen2_5_72b", 72.7), ("qwen2_5_vl_3b", 3.75)],
)
def test_parameter_counts_equal_published_ones(name, billions):
    shape = hf_config.read_config(assets.SHAPES / name)
    params = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(shape)))
    assert params / 1e9 == pytest.approx(billions, rel=2e-3)
    assert json.loads((assets.SHAPES / name / "config.json").read_text())["model_type"].startswith("qwen2")


def test_chip_memory_is_near_that_of_data_sheets():
    published = {"v5e": 16, "v5p": 95, "v6e": 32, "tpu7x": 192 / 2, "h100": 0.9 * 80e9 / 2**30}
    assert set(published) == set(CHIPS)
    for name, chip in CHIPS.items():
        assert chip.hbm_gib == pytest.approx(published[name], rel=0.07)
        # Between 150 and 600 FLOPs per byte from memory; outside of that, a number has the wrong unit.
        assert 150 < chip.tflops * 1e12 / (chip.gb_per_s * 1e9) < 600
        assert chip.source
