"""The logits of a stored reference of a vision-language model, as transformers computed them."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from mig_jax.models import decoder, sampler
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy import encoding, images

# Compilation takes much longer than computation here.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def check_logits(reference: pathlib.Path, *, max_patches: int) -> None:
    """Check prompts, positions and logits of two prompts of different lengths with two images each."""
    config = hf_config.read_config(reference)
    model = decoder.bind(config, hf_weights.load(reference, config))
    stored = np.load(reference / "logits.npz")
    processor = Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=6400)
    reader = images.ImageReader(config.vision, processor, max_patches=max_patches)
    prompts = ([1, 2, 91, 90, 92, 3, 4, 5, 91, 90, 92, 6, 7], [8, 91, 90, 92, 91, 90, 92, 9])
    read = [
        reader.read(ids, [Image.fromarray(stored[f"image_{q}_{i}"]) for i in range(2)]) for q, ids in enumerate(prompts)
    ]
    width = stored["token_qs"].shape[1]
    token_qs, start_q = encoding.pad_left([prompt.ids for prompt in read], width, pad_id=93)
    stacked = reader.stack(read, width)
    np.testing.assert_array_equal(token_qs, stored["token_qs"])
    np.testing.assert_array_equal(stacked.next_q, stored["next_q"])
    valid_qs = stored["valid_qs"]
    np.testing.assert_array_equal(stacked.position_qs3[valid_qs], stored["position_qs3"][valid_qs])

    @quick_jit
    def logits(token_qs, start_q, stacked):
        stacked = stacked._replace(feature_qid=model.vision(stacked.pixels))
        position_qs3, is_valid_qs = sampler.row_positions(start_q, width, stacked)
        features = sampler.row_features(stacked, *token_qs.shape)
        hidden_qsd, _ = model(token_qs, position_qs3, is_valid_qs, features=features)
        return jnp.einsum("qsd,dv->qsv", hidden_qsd, model.unembed_dv())

    logits_qsv = np.asarray(logits(token_qs, start_q, stacked))
    np.testing.assert_allclose(logits_qsv[valid_qs], stored["logits_qsv"][valid_qs], atol=3e-5)
