"""Qwen2.5-VL equals transformers: parts, logits, positions, gradients, and saved folders. Needs torch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import decoder, qwen2_vl, sampler
from mig_jax.models.decoder import ImageFeatures
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy import encoding, images

torch = pytest.importorskip("torch")

import transformers  # noqa: E402
from flax import nnx  # noqa: E402
from PIL import Image  # noqa: E402

from tools import make_vision_reference as reference  # noqa: E402


class Both:
    """The same random model in torch and in JAX, and the same two prompts in the form that each takes."""

    def __init__(self, folder, **text):
        self.theirs = reference.make_model(reference.make_config(**text), seed=3)
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


@pytest.fixture(scope="module", params=["untied", "tied"])
def both(request, tmp_path_factory):
    return Both(tmp_path_factory.mktemp(request.param), tie_word_embeddings=request.param == "tied")


# --- parts ---


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


def test_patches_embedded(both):
    want_md = capture(both.theirs.model.visual.blocks[0], run_tower(both))["args"][0].numpy()
    got_md = without_padding(both, both.model.vision.embed(jnp.array(both.images.pixels.patch_qjc)))
    np.testing.assert_allclose(got_md, want_md, atol=1e-5)


def test_rotary_angles(both):
    want = capture(both.theirs.model.visual.blocks[0], run_tower(both))["kwargs"]["position_embeddings"]
    vision = both.config.vision
    got = qwen2_vl.patch_rope(jnp.array(both.images.pixels.position_qj2), vision.width // vision.heads)
    for ours, theirs in zip(got, want, strict=True):
        half = theirs.shape[-1] // 2
        np.testing.assert_allclose(without_padding(both, ours), theirs.numpy()[:, :half], atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_one_layer(both, layer):
    """0 and 2 attend within windows, 1 and 3 within images."""
    captured = capture(both.theirs.model.visual.blocks[layer], run_tower(both))
    pixels, vision = both.images.pixels, both.config.vision
    graphdef, params = nnx.split(both.model.vision.layers)
    ours = nnx.merge(graphdef, jax.tree.map(lambda x: x[layer], params))
    rope = qwen2_vl.patch_rope(jnp.array(pixels.position_qj2), vision.width // vision.heads)
    is_full = jnp.array(layer in vision.full_layers)
    got_qnd = ours(with_padding(both, captured["args"][0].numpy()), rope, jnp.array(pixels.image_qj), is_full)
    np.testing.assert_allclose(without_padding(both, got_qnd), captured["output"].numpy(), atol=1e-5)


def test_merger(both):
    captured = capture(both.theirs.model.visual.merger, run_tower(both))
    got_qid = both.model.vision.merger(with_padding(both, captured["args"][0].numpy()))
    is_unit_qi = np.asarray(both.images.pixels.image_qj)[:, ::4] >= 0
    np.testing.assert_allclose(np.asarray(got_qid)[is_unit_qi], captured["output"].numpy(), atol=1e-4)


def test_whole_tower_in_prompt_order(both):
    want = capture(both.theirs.model.visual, run_tower(both))["output"].pooler_output.numpy()
    feature_qid = np.asarray(both.model.vision(both.images.pixels))
    got = np.concatenate([feature_id[units] for feature_id, units in zip(feature_qid, both.units, strict=True)])
    np.testing.assert_allclose(got, want, atol=1e-4)


# --- whole model ---


def test_positions_equal_get_rope_index(both):
    position_qs3, next_q = reference.positions_of(both.theirs, both.inputs)
    np.testing.assert_array_equal(both.images.position_qs3, position_qs3)
    np.testing.assert_array_equal(both.images.next_q, next_q)


def test_logits(both):
    want_qsv = reference.logits_of(both.theirs, both.inputs)
    got_qsv = np.asarray(both.logits(both.params))
    np.testing.assert_allclose(got_qsv[both.valid_qs], want_qsv[both.valid_qs], atol=1e-4)


def test_greedy_tokens_equal_generate(both):
    steps = 12
    with torch.no_grad():
        out = both.theirs.generate(**both.inputs, max_new_tokens=steps, do_sample=False, eos_token_id=None)
    images = jax.tree.map(jnp.asarray, both.images)._replace(feature_qid=both.model.vision(both.images.pixels))
    prompts = sampler.Prompts(jnp.array(both.token_qs), jnp.array(both.start_q), images)
    ours = sampler.sample(
        both.model,
        prompts,
        jax.random.key(0),
        group_size=2,
        max_new_tokens=steps,
        temperature=0.0,
        stop_ids=(),
        pad_id=reference.PAD,
    )
    want_bt = np.repeat(out.numpy()[:, both.width :], 2, axis=0)
    np.testing.assert_array_equal(ours.token_bt, want_bt)


def test_gradients_of_every_parameter(both):
    """Of the mean negative log-likelihood of the next token, compared in the format of transformers."""
    targets = torch.roll(both.inputs["input_ids"], -1, dims=1)
    valid = torch.tensor(both.valid_qs)[:, :-1]
    both.theirs.zero_grad()
    logits = both.theirs(**both.inputs).logits[:, :-1][valid]
    torch.nn.functional.cross_entropy(logits, targets[:, :-1][valid]).backward()

    def loss(params):
        logprob = jax.nn.log_softmax(both.logits(params)[:, :-1])
        picked = jnp.take_along_axis(logprob, jnp.array(targets[:, :-1].numpy())[..., None], axis=-1)[..., 0]
        return -jnp.sum(jnp.where(valid.numpy(), picked, 0)) / valid.numpy().sum()

    want = {name: param.grad.numpy() for name, param in both.theirs.named_parameters()}
    got = stored_like_theirs(jax.grad(loss)(both.params), both.config)
    assert set(got) == set(want)
    for name, gradient in want.items():
        np.testing.assert_allclose(got[name], gradient, atol=1e-3 * np.abs(gradient).max(), err_msg=name)


def stored_like_theirs(params, config):
    """Return parameters with the names and shapes of torch, read from what `save` writes."""
    import tempfile

    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        hf_weights.save(params, config, folder)
        stored = load_file(f"{folder}/model.safetensors")
    longer = {"model.": "model.language_model.", "visual.": "model.visual.", "lm_head.": "lm_head."}
    prefix = {name: next(old for old in longer if name.startswith(old)) for name in stored}
    return {longer[prefix[name]] + name.removeprefix(prefix[name]): x for name, x in stored.items()}


# --- folders ---


@pytest.mark.parametrize("auto", ["AutoModelForImageTextToText", "Qwen2_5_VLForConditionalGeneration"])
def test_transformers_reads_what_we_save(both, auto, tmp_path):
    hf_weights.save(both.params, both.config, tmp_path, eos_ids=(94,), pad_id=reference.PAD)
    both.reader.save(tmp_path)
    again = getattr(transformers, auto).from_pretrained(tmp_path, attn_implementation="eager")
    assert type(again) is type(both.theirs)
    for name, want in both.theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], want), name
    assert again.config.image_token_id == reference.IMAGE
    want_qsv, got_qsv = (reference.logits_of(model, both.inputs) for model in (both.theirs, again))
    np.testing.assert_array_equal(got_qsv[both.valid_qs], want_qsv[both.valid_qs])
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert processor.patch_size == 4 and dict(processor.size) == dict(both.reader.processor.size)


def test_flat_and_nested_configs_are_equal(both, tmp_path):
    """Files on the hub are flat; transformers 5 nests the fields of the text decoder."""
    both.theirs.config.save_pretrained(tmp_path / "nested")
    assert "text_config" in json.loads((tmp_path / "nested" / "config.json").read_text())
    (tmp_path / "flat").mkdir()
    hf_config.write_config(both.config, tmp_path / "flat")
    assert "text_config" not in json.loads((tmp_path / "flat" / "config.json").read_text())
    assert hf_config.read_config(tmp_path / "flat") == hf_config.read_config(tmp_path / "nested") == both.config
