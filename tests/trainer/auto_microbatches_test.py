"""The number of micro-batches that is chosen: by tokens on a CPU, by memory on an accelerator; it divides the rows."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mig_jax.aot.programs import TrainingPrograms
from mig_jax.distributed import sharding
from mig_jax.learning.optimizer import make_optimizer, make_schedule
from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.policy.load import abstract_policy, load_policy
from mig_jax.trainer import announce
from mig_jax.trainer.auto_microbatches import AutoMicrobatches, auto_microbatches, memory_gb, stored_bytes
from mig_jax.trainer.update import plan_microbatches
from tests import tiny

SHAPE = DecoderConfig(vocab_size=99, width=64, layers=2, heads=4, kv_heads=2, head_size=16, mlp_width=192)
CPU = AutoMicrobatches(SHAPE, shards=1, tensor=1, budget=None)


@pytest.mark.parametrize(
    "rows, slots, units, shards, expected",
    [
        (256, 116, 256, 1, 64),  # 4 rows of 116 tokens; 8 would be 928
        (32, 192, 32, 1, 16),
        (4, 128, 4, 1, 1),
        (6, 10_000, 6, 1, 6),  # no part is small enough
        (256, 116, 32, 1, 32),  # rows of a prompt with an image stay together
        (32, 116, 32, 8, 1),  # 4 rows on each device
        (64, 116, 64, 8, 2),
        (7, 500, 7, 1, 7),
        (7, 500, 7, 2, 1),  # rows that the devices do not divide
    ],
)
def test_choice_on_cpu(rows, slots, units, shards, expected):
    assert dataclasses.replace(CPU, shards=shards).choose(rows, slots, units=units) == expected


def test_choice_by_memory_is_the_smallest_number_that_fits():
    for n in (1, 2, 4, 8):
        choice = dataclasses.replace(CPU, budget=stored_bytes(SHAPE, 8 // n, 100))
        assert choice.choose(8, 100, units=8) == n
    assert dataclasses.replace(CPU, budget=-1.0).choose(8, 100, units=8) == 8


def test_shorter_rows_are_split_less():
    assert [CPU.choose(32, slots, units=32) for slots in (192, 96, 48)] == [16, 8, 4]


@pytest.mark.parametrize(
    "kind, size",
    [("NVIDIA A100-SXM4-80GB", 80), ("NVIDIA H100 80GB HBM3", 80), ("TPU v5 lite", 16), ("TPU v5p", 95), ("TPU v5", 95),
     ("TPU v6 lite", 32), ("Tesla T4", 15), ("NVIDIA H200", 141), ("unheard-of", 16)],
)  # fmt: skip
def test_memory_by_the_name_of_a_kind(kind, size):
    assert memory_gb(kind) == size


def test_accelerator_has_what_state_and_logits_leave():
    """A 0.5B shape on one device of 80 GB, in float32: 2.0 GB of parameters, 4.0 of moments and 4.0 of gradients."""
    config = tiny.get_config(model__path="mig_jax/assets/shapes/qwen2_5_0_5b", model__param_dtype="float32")
    policy = abstract_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]))
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA A100-SXM4-80GB")
    on_gpu = SimpleNamespace(
        params=policy.params,
        config=policy.config,
        is_trainable=policy.is_trainable,
        mesh=SimpleNamespace(devices=np.array([gpu]), shape={"data": 1, "fsdp": 1, "tensor": 1}),
    )
    tx = make_optimizer(
        make_schedule(peak_lr=1e-6, warmup_steps=0, total_steps=1, decay="constant"),
        weight_decay=0.0, clip_norm=1.0, b1=0.9, b2=0.99, state_dtype="", key=jax.random.key(0),
    )  # fmt: skip
    count = sum(x.size for x in jax.tree.leaves(policy.params))
    logits = 12 * config.optimizer.logprob_tokens * policy.config.vocab_size
    assert auto_microbatches(on_gpu, config, tx).budget == pytest.approx(56e9 - 20 * count - logits, rel=1e-6)


@pytest.mark.parametrize("remat", ["none", "matmuls", "layer"])
@pytest.mark.slow
def test_stored_bytes_are_about_those_of_the_compiler(remat):
    """What 32 rows more take, by the compiler for a CPU."""

    def temporary(rows):
        config = tiny.get_config(
            model__remat=remat, model__init__width=64, model__init__mlp_width=192, model__init__layers=6,
            model__init__heads=4, model__init__head_size=16, rollout__questions=rows, rollout__group_size=1,
            rollout__max_new_tokens=96, mesh__data=1,
        )  # fmt: skip
        training = TrainingPrograms(config, jax.devices()[:1])
        with jax.set_mesh(training.mesh):
            program = training.programs(rows)["update"]
            memory = program.function.lower(*program.arguments).compile().memory_analysis()
        return memory.temp_size_in_bytes, training.policy.config

    (small, shape), (large, _) = temporary(32), temporary(64)
    expected = stored_bytes(shape, 64, 128) - stored_bytes(shape, 32, 128)
    assert 0.5 < expected / (large - small) < 2


def test_announcement_names_what_was_chosen():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    config = tiny.get_config(optimizer__microbatches=0)
    policy = load_policy(config.model, mesh, seed=0)
    assert plan_microbatches(policy, config, "train") == (4, 4)
    assert announce.describe_microbatches(policy, config, mode="train") == (
        "micro-batches: 4 to an update, of 4 rows; chosen for cpu, fewer where rows are short"
    )
    config.optimizer.microbatches = 2
    assert announce.describe_microbatches(policy, config, mode="sft") == (
        "micro-batches: 2 to an update, of 8 rows (optimizer.microbatches)"
    )
