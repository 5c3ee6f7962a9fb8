"""The example of the docs runs, and a tree gives the likelihoods of padded pairs."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from mig_jax.integrations import encode, jax_models
from mig_jax.integrations.engines import padded_likelihoods
from mig_jax.text.tokenizer import build_character_tokenizer

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


@pytest.fixture(scope="module")
def example():
    """The names that the example defines."""
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "nn.Module" in code)
    names = {}
    exec(code, names)
    return names


def test_trees_equal_padded_pairs(example):
    responses = ["<think>\n### Step 1: 1+2=3\n### Step 2: 3+3=6\n</think>\n<answer>6</answer>", "<think>\n"]
    rows = encode(
        build_character_tokenizer(), ["1+2+3=?"] * 2, responses, ["6", "1/2"], kinds="number", terminator="event"
    )
    trees = jax_models.likelihoods(example["network"].apply, example["variables"], rows, batch_size=2)
    used = []

    @jax.jit
    def apply(ids, positions, mask):
        return jax.nn.log_softmax(example["network"].apply(example["variables"], ids, positions, mask))

    def logprobs(context, continuation, pad_id):
        used.append((context.shape, pad_id))
        ids = np.concatenate([context, continuation], axis=1)
        is_token = ids != pad_id
        positions = np.maximum(np.cumsum(is_token, axis=1) - 1, 0)
        causal = np.tril(np.ones((ids.shape[1],) * 2, bool))
        logprob_btv = apply(ids, positions, causal & is_token[:, None])[:, context.shape[1] - 1 : -1]
        return np.take_along_axis(np.asarray(logprob_btv), continuation[..., None], axis=-1)[..., 0]

    newline = 10  # an id that the texts have, so it cannot be the padding
    pairs = padded_likelihoods(logprobs, rows, pad_id=newline, batch_size=8, context_step=64)
    ((shape, pad_id),) = used
    assert shape[0] % 8 == 0 and shape[1] % 64 == 0 and pad_id != newline
    for tree_k, pair_k in zip(trees, pairs, strict=True):
        np.testing.assert_allclose(tree_k, pair_k, atol=2e-5)


def test_batches_are_filled_up(example):
    rows = encode(build_character_tokenizer(), ["1"] * 3, ["<think>\n### Step 1: 1\n", "", "2"], ["6", "6", "6"])
    one = jax_models.likelihoods(example["network"].apply, example["variables"], rows, batch_size=2)
    assert [len(ell_k) for ell_k in one] == [2, 1, 1]
    np.testing.assert_allclose(one[1], one[2], atol=1e-5)  # both are ℓ of the question
