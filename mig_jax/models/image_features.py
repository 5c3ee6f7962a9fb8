"""Outputs of the vision tower in the decoder: they replace the embeddings of image tokens, or add to hidden states."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ImageFeatures(NamedTuple):
    """Outputs of the vision tower that replace tokens of B rows, B / Q rows per question.

    feature_qid: `[Q, I, D]` features of the images of each question, one image after the other; `[Q, I, (1 + E)·D]`
      with deepstack, see `vision`.
    index_bt: `[B, T]` index of the feature that replaces each token; −1 for the token itself.
    """

    feature_qid: jax.Array
    index_bt: jax.Array


def insert(x_btd: jax.Array, features: ImageFeatures) -> jax.Array:
    """Replace the embeddings of image tokens by their features."""
    return jnp.where((features.index_bt >= 0)[..., None], _take(features, 0, x_btd), x_btd)


def count_deepstack(features: ImageFeatures | None, width: int) -> int:
    """Return E, the number of decoder layers whose output features are added to; 0 for none."""
    return features.feature_qid.shape[-1] // width - 1 if features else 0


def add_deepstack(x_btd: jax.Array, features: ImageFeatures, layer: jax.Array) -> jax.Array:
    """Add to the hidden states of image tokens, after `layer` (from 0), their features for it, if there are any."""

    def add(x_btd: jax.Array) -> jax.Array:
        feature_btd = _take(features, layer + 1, x_btd)
        return x_btd + jnp.where((features.index_bt >= 0)[..., None], feature_btd, 0)

    has_features = layer < count_deepstack(features, x_btd.shape[-1])
    return jax.lax.cond(has_features, add, lambda x_btd: x_btd, x_btd)


def _take(features: ImageFeatures, number: int | jax.Array, x_btd: jax.Array) -> jax.Array:
    """Return one of the 1 + E features of each token, arbitrary for text, without repeating features for each row."""
    feature_qid, width = features.feature_qid, x_btd.shape[-1]
    if feature_qid.shape[-1] > width:
        feature_qid = jax.lax.dynamic_slice_in_dim(feature_qid, number * width, width, axis=-1)
    questions = len(feature_qid)
    index_qn = features.index_bt.reshape(questions, -1)  # n: tokens of all rows of a question
    feature_qnd = jnp.take_along_axis(feature_qid, jnp.maximum(index_qn, 0)[..., None], axis=1)
    return feature_qnd.reshape(x_btd.shape).astype(x_btd.dtype)
