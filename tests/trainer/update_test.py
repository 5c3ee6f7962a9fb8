"""What an update sends between devices: the output matrix not once for every chunk of the log-probs."""

import math

import jax
import numpy as np
import pytest

from mig_jax.aot.programs import TrainingPrograms
from mig_jax.policy.load import Policy
from tests import tiny

MICROBATCHES, CHUNKS, LAYERS = 2, 5, 3


@pytest.mark.parametrize(
    "mesh, tied, padded",
    [
        pytest.param({"fsdp": 2, "tensor": 2}, False, False, marks=pytest.mark.slow),
        ({"fsdp": 2, "tensor": 2}, True, True),
        pytest.param({"fsdp": 8}, True, False, marks=pytest.mark.slow),
        pytest.param({"data": 2, "fsdp": 2, "tensor": 2}, True, False, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_chunks_of_logprobs_send_no_matrix(monkeypatch, mesh, tied, padded):
    """Rows over all devices: nothing. A vocabulary over two: sums of a number for each token, and of its width.

    The mask of a padded vocabulary is where the logits are.
    """
    if padded:
        is_token_v = property(lambda policy: np.arange(policy.config.vocab_size) < policy.config.vocab_size - 3)
        monkeypatch.setattr(Policy, "is_token_v", is_token_v)
    config = tiny.get_config(
        model__init__layers=LAYERS, model__init__tied_head=tied, optimizer__microbatches=MICROBATCHES, mesh__data=1
    )
    config.mesh.update(mesh)
    parts = config.mesh.data * config.mesh.fsdp
    tokens = config.rollout.questions * config.rollout.group_size * config.rollout.max_new_tokens // MICROBATCHES
    config.optimizer.logprob_tokens = tokens // parts // CHUNKS
    training = TrainingPrograms(config, jax.devices()[: math.prod(mesh.values())])
    collectives = training.compile("update", 8).collectives
    of_chunks = {c.kind: traffic for c, traffic in collectives.items() if c.trip_counts == (MICROBATCHES, CHUNKS)}
    assert any(c.trip_counts == (MICROBATCHES, LAYERS) for c in collectives)  # as those of the layers would be found
    if "tensor" not in mesh:
        assert not of_chunks
        return
    parts = training.mesh.shape["data"] * training.mesh.shape["fsdp"]
    tokens = config.rollout.questions * config.rollout.group_size // parts * config.rollout.max_new_tokens
    assert set(of_chunks) == {"all-reduce"}
    assert of_chunks["all-reduce"].nbytes <= 4 * tokens * (config.model.init.width + 4 * 4)
