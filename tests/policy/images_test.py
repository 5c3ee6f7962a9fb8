"""Images to arrays: patches in their slots, units in their prompt positions, all errors reported at once."""

import dataclasses
import io
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageFile

from mig_jax.errors import UserError
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.policy import images
from mig_jax.text import tokenizer as tokenizers

TOKENIZER = tokenizers.build_character_tokenizer()
VISION = VisionConfig(
    width=8,
    layers=1,
    heads=1,
    mlp_width=8,
    full_layers=(0,),
    patch_size=4,
    window_size=16,
    **images.image_tokens(TOKENIZER),
)
IMAGE = VISION.image_token_id
SIZES = ConfigDict({"max_patches": 112, "min_pixels": 64, "max_pixels": 2048})
READER = images.make_reader(VISION, TOKENIZER, "", SIZES)


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def normalised(image):
    """Return `[height, width, channels]` with the values that patches hold."""
    mean, std = READER.processor.image_mean, READER.processor.image_std
    return (np.asarray(image, np.float32) / 255 - np.float32(mean)) / np.float32(std)


def test_measuring_decodes_no_image(monkeypatch):
    pictures = [encoded(noise(8, 16), form) for form in ("PNG", "JPEG")]
    expected = len(READER.read([IMAGE, IMAGE], pictures).ids)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert READER.measure([IMAGE, IMAGE], pictures).tokens == expected


def test_every_unit_of_the_prompt_indexes_its_pixels():
    pictures = [noise(24, 40), noise(8, 16, seed=1)]  # not resized: their sides are whole units
    ids, images = READER.read([1, IMAGE, 2, 3, IMAGE], pictures)
    assert ids == [1] + [IMAGE] * 15 + [2, 3] + [IMAGE] * 2
    np.testing.assert_array_equal(images.index_s >= 0, np.array(ids) == IMAGE)
    slots = np.flatnonzero(images.index_s >= 0)
    for picture, number, first in ((pictures[0], 0, 0), (pictures[1], 1, 15)):
        pixels = normalised(picture)
        for unit, slot in enumerate(slots[first : first + 15 if number == 0 else None]):
            row, column = divmod(unit, picture.width // 8)
            patches = slice(4 * images.index_s[slot], 4 * images.index_s[slot] + 4)
            np.testing.assert_array_equal(images.image_j[patches], number)
            for patch_c, (y, x) in zip(images.patch_jc[patches], images.position_j2[patches], strict=True):
                assert (y // 2, x // 2) == (row, column)
                want_yxc = pixels[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                for frame_cyx in patch_c.reshape(3, 2, 4, 4).swapaxes(0, 1):
                    np.testing.assert_allclose(frame_cyx, want_yxc.transpose(2, 0, 1), atol=1e-5)
    assert len(images.image_j) == 6 * 16 + 16  # both images, windows padded


def test_appended_text_is_as_if_it_was_in_the_prompt():
    pictures = [noise(24, 40)]
    begun, whole = READER.read([1, IMAGE, 2], pictures).append([3, 4]), READER.read([1, IMAGE, 2, 3, 4], pictures)
    assert begun.ids == whole.ids and begun.images.next == whole.images.next
    for field in ("index_s", "position_s3"):
        np.testing.assert_array_equal(getattr(begun.images, field), getattr(whole.images, field))
    assert images.Prompt([1]).append([2]) == images.Prompt([1, 2])


def test_padding_is_zero():
    _, images = READER.read([IMAGE], [noise(24, 24)])
    assert len(images.image_j) == 4 * 16 and (images.image_j == 0).sum() == 36
    assert not images.patch_jc[images.image_j < 0].any()


def test_stack_pads_prompts_on_the_left_and_patches_on_the_right():
    prompts = [READER.read([1, IMAGE, 2], [noise(16, 16)]), READER.read([3, 4], [])]
    images = READER.stack(prompts, width=9)
    no = -1
    np.testing.assert_array_equal(images.index_qs, [[no] * 4 + [0, 1, 2, 3] + [no], [no] * 9])
    np.testing.assert_array_equal(images.position_qs3[1], [[0] * 3] * 8 + [[1] * 3])
    np.testing.assert_array_equal(images.position_qs3[0, :, 2], [0, 0, 0, 0, 1, 2, 1, 2, 3][:9])
    np.testing.assert_array_equal(images.next_q, [4, 2])
    assert images.pixels.patch_qjc.shape == (2, 112, VISION.values_per_patch)
    np.testing.assert_array_equal((images.pixels.image_qj >= 0).sum(1), [16, 0])
    assert images.feature_qid is None
    with pytest.raises(ValueError, match="6 tokens.*max_prompt_tokens=5"):
        READER.stack(prompts, width=5)


@pytest.mark.parametrize("size", [(8, 8), (24, 40), (13, 57), (100, 20)])
def test_measure_agrees_with_read(size):
    prompt = READER.read([1, IMAGE], [noise(*size)])
    assert READER.measure([1, IMAGE], [noise(*size)]) == (len(prompt.ids), len(prompt.images.image_j))


def test_bytes_paths_and_opened_images_are_the_same(tmp_path):
    picture = noise(16, 24)
    picture.save(tmp_path / "a.png")
    want = READER.read([IMAGE], [picture]).images
    for source in (encoded(picture), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(READER.read([IMAGE], [source]).images.patch_jc, want.patch_jc)


def test_exif_orientation_is_applied():
    tag = Image.Exif()
    tag[0x0112] = 6  # rotate by 90 degrees
    turned = Image.open(io.BytesIO(encoded(noise(16, 32), exif=tag)))
    prompt = READER.read([IMAGE], [turned])
    assert READER.measure([IMAGE], [turned]).tokens == len(prompt.ids) == 8
    np.testing.assert_array_equal(prompt.images.position_j2.max(0), [7, 3])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_all_colour_modes_are_read(mode):
    picture = Image.new("I;16", (16, 16)) if mode == "I;16" else noise(16, 16).convert(mode)
    assert READER.read([IMAGE], [picture]).images.patch_jc.shape == (16, VISION.values_per_patch)


def test_all_errors_are_reported_at_once(tmp_path):
    faulty = [b"no image", tmp_path / "absent.png", Image.new("RGB", (0, 4)), Image.new("RGB", (500, 2))]
    with pytest.raises(ValueError) as caught:
        READER.read([IMAGE] * 3, faulty)
    for word in (
        "image 1: 8 bytes",
        "image 2:",
        "absent.png",
        "image 3: no pixels (0 × 4)",
        "image 4",
        "4 images for 3",
    ):
        assert word in str(caught.value)


def test_truncated_image_is_an_error():
    whole = encoded(noise(40, 40))
    for form in ("PNG", "JPEG"):
        whole = encoded(noise(40, 40), form)
        with pytest.raises(ValueError, match="image 2: .*truncated"):
            READER.read([IMAGE, IMAGE], [noise(8, 8), whole[: len(whole) // 2]])


def test_too_many_patches_fail_read_but_not_measure():
    pictures = [noise(40, 40), noise(40, 40)]
    assert READER.measure([IMAGE, IMAGE], pictures).patches == 2 * 9 * 16
    with pytest.raises(ValueError, match="288 patches.*model.vision.max_patches=112"):
        READER.read([IMAGE, IMAGE], pictures)


def test_max_pixels_scales_down():
    small = images.make_reader(VISION, TOKENIZER, "", ConfigDict(SIZES.to_dict() | {"max_pixels": 256}))
    assert small.measure([IMAGE], [noise(40, 40)]).tokens < READER.measure([IMAGE], [noise(40, 40)]).tokens == 25


# --- preprocessor_config.json ---

# As the hub's files are.
HUB = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 4,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}


def write_hub_file(folder, **changes):
    (folder / "preprocessor_config.json").write_text(json.dumps(HUB | changes))
    return str(folder)


def test_colours_are_normalised_as_the_folder_says(tmp_path):
    as_the_folder_says = ConfigDict({"max_patches": 112, "min_pixels": 0, "max_pixels": 0})
    reader = images.make_reader(VISION, TOKENIZER, write_hub_file(tmp_path), as_the_folder_says)
    assert (reader.processor.size["shortest_edge"], reader.processor.size["longest_edge"]) == (3136, 12845056)
    small = images.make_reader(VISION, TOKENIZER, str(tmp_path), SIZES)
    black_nc = small.read([IMAGE], [Image.new("RGB", (16, 16))]).images.patch_jc
    want_c = -np.array(HUB["image_mean"]) / HUB["image_std"]
    np.testing.assert_allclose(black_nc.reshape(16, 3, 32), np.broadcast_to(want_c[:, None], (16, 3, 32)), rtol=1e-5)


def test_processor_that_does_not_resize(tmp_path):
    sizes = ConfigDict({"max_patches": 256, "min_pixels": 64, "max_pixels": 2048})
    reader = images.make_reader(VISION, TOKENIZER, write_hub_file(tmp_path, do_resize=False), sizes)
    picture = noise(16, 136)  # more pixels than the limits allow
    assert len(reader.read([IMAGE], [picture]).ids) == 2 * 17
    with pytest.raises(UserError, match="12 × 16 pixels, but do_resize is false .* must be multiples of 8"):
        reader.read([IMAGE], [noise(16, 12)])


def test_saved_processor_is_read_back(tmp_path):
    first = images.make_reader(VISION, TOKENIZER, "", SIZES)
    first.save(tmp_path)
    sizes = ConfigDict({"max_patches": 112, "min_pixels": 0, "max_pixels": 0})
    again = images.make_reader(VISION, TOKENIZER, str(tmp_path), sizes)
    assert again.processor.to_dict() == first.processor.to_dict()
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    # transformers 4 reads no other names of the limits.
    assert (written["min_pixels"], written["max_pixels"]) == (SIZES.min_pixels, SIZES.max_pixels)


def test_processor_of_the_base_model_is_copied(tmp_path):
    """The limits of a run do not narrow those that the model is served with."""
    reader = images.make_reader(VISION, TOKENIZER, write_hub_file(tmp_path), SIZES)
    (tmp_path / "again").mkdir()
    reader.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "preprocessor_config.json").read_text()) == HUB


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_missing_or_broken_file_is_an_error(tmp_path, content):
    if content:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ValueError, match="preprocessor_config.json is missing or broken"):
        images.make_reader(VISION, TOKENIZER, str(tmp_path), SIZES)


def test_all_mismatches_are_reported(tmp_path):
    vision = dataclasses.replace(VISION, image_token_id=5)
    sizes = ConfigDict({"max_patches": 40, "min_pixels": 100, "max_pixels": 64})
    with pytest.raises(ValueError) as caught:
        images.make_reader(vision, TOKENIZER, write_hub_file(tmp_path, merge_size=3), sizes)
    for word in ("merge_size is 3", "<|image_pad|>", "min_pixels=100, max_pixels=64", "max_patches=40"):
        assert word in str(caught.value).replace(" and ", ", ")
