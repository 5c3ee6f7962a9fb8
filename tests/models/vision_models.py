"""The same random vision-language model in torch and in JAX, for tests that compare them. Needs torch."""

import jax.numpy as jnp
import numpy as np
import torch
import transformers
from PIL import Image

from mig_jax.models import decoder, sampler
from mig_jax.models.decoder import ImageFeatures
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy import encoding, images
from tools import make_vision_reference as reference


class Both:
    """The same random model in torch and in JAX, and the same two prompts in the form that each takes."""

    def __init__(self, folder, family="qwen2_5_vl", **text):
        self.theirs = reference.make_model(reference.make_config(family, **text), seed=3)
        self.theirs.save_pretrained(folder)
        self.config = hf_config.read_config(folder)
        self.params = hf_weights.load(folder, self.config)
        self.model = decoder.bind(self.config, self.params)
        pictures = reference.make_images(seed=5)
        self.inputs = reference.torch_inputs(pictures)
        self.width = self.inputs["input_ids"].shape[1]
        processor = transformers.Qwen2VLImageProcessorPil(**reference.PROCESSOR)
        self.reader = images.ImageReader(self.config.vision, processor, max_patches=160)
        read = [
            self.reader.read(ids, [Image.fromarray(x) for x in prompt])
            for (ids, _), prompt in zip(reference.PROMPTS, pictures, strict=True)
        ]
        self.token_qs, self.start_q = encoding.pad_left([p.ids for p in read], self.width, reference.PAD)
        self.images = self.reader.stack(read, self.width)
        self.units = [np.concatenate([p.images.index_s[p.images.index_s >= 0]]) for p in read]

    def logits(self, params, feature_qid=None):
        model = decoder.bind(self.config, params)
        feature_qid = model.vision(self.images.pixels) if feature_qid is None else feature_qid
        position_qs3, valid_qs = sampler.row_positions(jnp.array(self.start_q), self.width, self.images)
        features = ImageFeatures(feature_qid, jnp.array(self.images.index_qs))
        hidden_qsd, _ = model(jnp.array(self.token_qs), position_qs3, valid_qs, features=features)
        return jnp.einsum("qsd,dv->qsv", hidden_qsd, model.unembed_dv())

    @property
    def valid_qs(self):
        return self.inputs["attention_mask"].numpy().astype(bool)


def capture(module, run):
    """Return the inputs and outputs of a torch module while `run` is called."""
    captured = {}

    def record(_, args, kwargs, output):
        captured.update(args=args, kwargs=kwargs, output=output)

    handle = module.register_forward_hook(record, with_kwargs=True)
    with torch.no_grad():
        run()
    handle.remove()
    return captured


def slots_of(both):
    """Return the slots of each question's patches in window order; transformers omits the padding."""
    return [np.flatnonzero(image_j >= 0) for image_j in both.images.pixels.image_qj]


def without_padding(both, x_qjd):
    """Return the patches of all questions, in the layout of transformers."""
    return np.concatenate([np.asarray(x_nd)[slots] for x_nd, slots in zip(x_qjd, slots_of(both), strict=True)])


def with_padding(both, x_md):
    """Invert `without_padding`; padding is 0."""
    sizes = [len(slots) for slots in slots_of(both)]
    x_qjd = np.zeros((len(sizes), 160, x_md.shape[-1]), np.float32)
    for x_nd, slots, part in zip(x_qjd, slots_of(both), np.split(x_md, np.cumsum(sizes)[:-1]), strict=True):
        x_nd[slots] = part
    return jnp.array(x_qjd)


def run_tower(both):
    tower = both.theirs.model.visual
    return lambda: tower(both.inputs["pixel_values"], grid_thw=both.inputs["image_grid_thw"])
