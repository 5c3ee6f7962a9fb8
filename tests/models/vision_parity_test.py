"""Vision-language models equal transformers: features, logits, positions, gradients, and saved folders. Needs torch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import sampler
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import layout
from mig_jax.models.huggingface import weights as hf_weights

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from tests.models.vision_models import Both, capture, run_tower  # noqa: E402
from tools import make_vision_reference as reference  # noqa: E402


@pytest.fixture(scope="module", params=[(family, tied) for family in reference.FAMILIES for tied in (False, True)])
def both(request, tmp_path_factory):
    family, tied = request.param
    return Both(tmp_path_factory.mktemp(family), family, tie_word_embeddings=tied)


def test_whole_tower_in_prompt_order(both):
    output = capture(both.theirs.model.visual, run_tower(both))["output"]
    want = np.concatenate([output.pooler_output, *(getattr(output, "deepstack_features", None) or [])], axis=-1)
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
    stored = {layout.canonical_name(name): x for name, x in stored.items()}
    prefix = {name: next(old for old in longer if name.startswith(old)) for name in stored}
    return {longer[prefix[name]] + name.removeprefix(prefix[name]): x for name, x in stored.items()}


# --- folders ---


@pytest.mark.parametrize("auto", ["AutoModelForImageTextToText", ""])
def test_transformers_reads_what_we_save(both, auto, tmp_path):
    hf_weights.save(both.params, both.config, tmp_path, eos_ids=(94,), pad_id=reference.PAD)
    both.reader.save(tmp_path)
    again = getattr(transformers, auto or type(both.theirs).__name__).from_pretrained(
        tmp_path, attn_implementation="eager"
    )
    assert type(again) is type(both.theirs)
    for name, want in both.theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], want), name
    assert again.config.image_token_id == reference.IMAGE
    want_qsv, got_qsv = (reference.logits_of(model, both.inputs) for model in (both.theirs, again))
    np.testing.assert_array_equal(got_qsv[both.valid_qs], want_qsv[both.valid_qs])
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert processor.patch_size == 4 and dict(processor.size) == dict(both.reader.processor.size)


def test_saved_and_written_configs_are_equal(both, tmp_path):
    """Qwen2.5-VL's files on the hub are flat, as ours; transformers 5 nests the fields of the text decoder."""
    both.theirs.config.save_pretrained(tmp_path / "theirs")
    assert "text_config" in json.loads((tmp_path / "theirs" / "config.json").read_text())
    (tmp_path / "ours").mkdir()
    hf_config.write_config(both.config, tmp_path / "ours")
    is_nested = "text_config" in json.loads((tmp_path / "ours" / "config.json").read_text())
    assert is_nested == (both.theirs.config.model_type == "qwen3_vl")
    assert hf_config.read_config(tmp_path / "ours") == hf_config.read_config(tmp_path / "theirs") == both.config
