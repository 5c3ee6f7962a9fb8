"""Images to arrays: patches for the vision tower, and a place in the prompt for what it makes of them.

    reader = make_reader(config.vision, tokenizer, folder, sizes)
    prompts = [reader.read(ids, images) for ids, images in …]      # ids hold one image token for each image
    images = reader.stack(prompts, width)                          # qwen2_vl.Images, padded to static shapes

Resizing, normalising and cutting into patches are left to transformers' own image processor (PIL and numpy).
"""

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mig_jax.config import ModelVisionConfig
from mig_jax.models import image_layout
from mig_jax.models.image_layout import Grid
from mig_jax.models.qwen2_vl import Images, Pixels, VisionConfig
from mig_jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import Qwen2VLImageProcessorPil

# One image: opened, encoded (PNG, JPEG, …), or the path of a file.
ImageSource = Image.Image | bytes | str | os.PathLike

_PROCESSOR = "preprocessor_config.json"
# What PIL raises over files that are broken, and images so large that they may be meant to do harm.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_PATCH_FIELDS = ("patch_size", "temporal_patch_size", "merge_size")
_TOKENS = {"image_token_id": "<|image_pad|>", "start_token_id": "<|vision_start|>", "end_token_id": "<|vision_end|>"}


class PromptImages(NamedTuple):
    """What stands in one prompt of S tokens beside its text; N slots, nothing padded but within windows.

    index_s: `[S]` which merged unit stands at each token; −1: the token itself.
    position_s3: `[S, 3]` position of each token in time, height and width.
    next: position of the token behind the prompt.
    patch_nc, position_n2, image_n: see `qwen2_vl.Pixels`.
    """

    index_s: np.ndarray
    position_s3: np.ndarray
    next: int
    patch_nc: np.ndarray
    position_n2: np.ndarray
    image_n: np.ndarray


class Prompt(NamedTuple):
    """A prompt's ids, in which every image has as many image tokens as merged units; None where no model sees."""

    ids: list[int]
    images: PromptImages | None = None


class PromptSize(NamedTuple):
    """What a prompt takes: tokens, those of its images included, and slots for patches, windows filled up."""

    tokens: int
    patches: int


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Turns prompts with images into arrays; made by `make_reader`.

    config: the tower's shape, and the id that stands for an image.
    processor: resizes an image and cuts it into patches.
    max_patches: slots of every prompt's images together; a multiple of a window's.
    """

    config: VisionConfig
    processor: "Qwen2VLImageProcessorPil"
    max_patches: int

    def measure(self, ids: Sequence[int], images: Sequence[ImageSource]) -> PromptSize:
        """How large a prompt becomes, without cutting its images into patches.

        Raises:
          ValueError: see `read`; that there are too many patches is left to the caller.
        """
        grids = self._open(ids, images)[1]
        units = sum(image_layout.count_units(grid, self.config) for grid in grids)
        return PromptSize(
            len(ids) - len(grids) + units, sum(image_layout.count_slots(grid, self.config) for grid in grids)
        )

    def read(self, ids: Sequence[int], images: Sequence[ImageSource]) -> Prompt:
        """One prompt with its images.

        Args:
          ids: of the prompt, with one image token where each image belongs.
          images: in that order.

        Raises:
          ValueError: one is no image, empty, broken, or more than 200 times as long as wide; there are not as many as
            image tokens; or they have more patches than `max_patches`. All of it is listed.
        """
        opened, grids = self._open(ids, images)
        pixels, problems = [], []
        for number, image in enumerate(opened, 1):
            try:
                pixels.append(ImageOps.exif_transpose(image).convert("RGB"))
            except _UNREADABLE as error:
                problems.append(f"image {number}: {error}")
        slots = sum(image_layout.count_slots(grid, self.config) for grid in grids)
        if slots > self.max_patches:
            problems.append(
                f"{slots} patches with their windows filled up, model.vision.max_patches={self.max_patches}: raise it, "
                "or lower model.vision.max_pixels"
            )
        _raise_all(problems)
        return self._lay_prompt(ids, pixels, grids)

    def stack(self, prompts: Sequence[Prompt], width: int) -> Images:
        """Q prompts that were `read`, padded on the left to `width` slots as their tokens are; numpy.

        Raises:
          ValueError: a prompt is too long.
        """
        if (longest := max(len(prompt.ids) for prompt in prompts)) > width:
            raise ValueError(f"a prompt has {longest} tokens with its images, data.max_prompt_tokens={width}")
        questions, slots = len(prompts), self.max_patches
        index_qs, position_qs3 = np.full((questions, width), -1, np.int32), np.zeros((questions, width, 3), np.int32)
        patch_qnc = np.zeros((questions, slots, self.config.values_per_patch), np.float32)
        position_qn2, image_qn = np.zeros((questions, slots, 2), np.int32), np.full((questions, slots), -1, np.int32)
        for row, (ids, images) in enumerate(prompts):
            start, end = width - len(ids), len(images.image_n)
            index_qs[row, start:], position_qs3[row, start:] = images.index_s, images.position_s3
            patch_qnc[row, :end], position_qn2[row, :end] = images.patch_nc, images.position_n2
            image_qn[row, :end] = images.image_n
        next_q = np.array([prompt.images.next for prompt in prompts], np.int32)
        return Images(index_qs, position_qs3, next_q, Pixels(patch_qnc, position_qn2, image_qn))

    def save(self, folder: str | os.PathLike) -> None:
        """Write preprocessor_config.json, as transformers and `make_reader` read it."""
        self.processor.save_pretrained(folder)

    def _open(self, ids: Sequence[int], images: Sequence[ImageSource]) -> tuple[list[Image.Image], list[Grid]]:
        """The images, not yet decoded, and how many patches each will have."""
        opened, grids, problems = [], [], []
        for number, source in enumerate(images, 1):
            try:
                image = _open_image(source)
                grids.append(self._grid(image))
            except _UNREADABLE as error:
                problems.append(f"image {number}: {error}")
            else:
                opened.append(image)
        n_tokens = sum(token == self.config.image_token_id for token in ids)
        if n_tokens != len(images):
            problems.append(f"{len(images)} images for {n_tokens} image tokens (id {self.config.image_token_id})")
        _raise_all(problems)
        return opened, grids

    def _grid(self, image: Image.Image) -> Grid:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        # A photograph may say that it is to be turned; 5 to 8 are the ways that swap height and width. PNG's own
        # getexif would decode the whole image, in case that stands at its end.
        is_turned = Image.Image.getexif(image).get(0x0112, 1) >= 5
        height, width = image.size if is_turned else image.size[::-1]
        c, size = self.config, self.processor.size
        if not height or not width:
            raise ValueError(f"no pixels ({width} × {height})")
        resized = smart_resize(height, width, c.patch_size * c.merge_size, size.shortest_edge, size.longest_edge)
        return Grid(*(pixels // c.patch_size for pixels in resized))

    def _lay_prompt(self, ids: Sequence[int], images: Sequence[Image.Image], grids: Sequence[Grid]) -> Prompt:
        """Image tokens repeated, and all arrays of one prompt."""
        layouts = [image_layout.build_layout(grid, self.config) for grid in grids]
        units = iter([len(layout.unit_i) for layout in layouts])
        image_token = self.config.image_token_id
        repeats = [next(units) if token == image_token else 1 for token in ids]
        ids = np.repeat(np.asarray(ids, np.int64), repeats).tolist()
        is_image_s = np.array(ids) == image_token
        position_s3, after = image_layout.prompt_positions(is_image_s, grids, self.config.merge_size)

        first_slot = np.cumsum([0, *(len(layout.patch_n) for layout in layouts)])
        index_s = np.full(len(ids), -1, np.int32)
        nothing = np.zeros(0, np.int32)
        firsts = first_slot // self.config.patches_per_unit
        index_s[is_image_s] = np.concatenate(
            [nothing, *(first + layout.unit_i for first, layout in zip(firsts[:-1], layouts, strict=True))]
        )
        patch_nc = np.zeros((first_slot[-1], self.config.values_per_patch), np.float32)
        image_n = np.full(first_slot[-1], -1, np.int32)
        for number, (image, layout) in enumerate(zip(images, layouts, strict=True)):
            slots, is_patch_n = slice(*first_slot[number : number + 2]), layout.patch_n >= 0
            patch_mc = self.processor(images=[image], return_tensors="np")["pixel_values"]
            patch_nc[slots][is_patch_n] = patch_mc[layout.patch_n[is_patch_n]]
            image_n[slots][is_patch_n] = number
        position_n2 = np.concatenate([nothing.reshape(0, 2), *(layout.position_n2 for layout in layouts)])
        return Prompt(ids, PromptImages(index_s, position_s3, after, patch_nc, position_n2, image_n))


def make_reader(config: VisionConfig, tokenizer: Tokenizer, folder: str, sizes: ModelVisionConfig) -> ImageReader:
    """The reader of a model's images.

    Args:
      folder: of the model, whose preprocessor_config.json says how colours are normalised; "" for the family's way.
      sizes: `max_patches`; and `min_pixels` and `max_pixels`, to which images are scaled (0: as the folder says).

    Raises:
      ValueError: the folder's file is missing or broken, or does not belong to the tower; sizes are impossible; or the
        tokenizer has other tokens for images. All of it is listed.
    """
    processor = _load_processor(config, folder)
    smallest = sizes.min_pixels or processor.size["shortest_edge"]
    largest = sizes.max_pixels or processor.size["longest_edge"]
    processor.size = type(processor.size)(shortest_edge=smallest, longest_edge=largest)
    problems = []
    for field in _PATCH_FIELDS:
        ours, theirs = dataclasses.asdict(config)[field], processor.to_dict()[field]
        if ours != theirs:
            problems.append(f"{field} is {theirs} in {_PROCESSOR}, {ours} in config.json")
    for field, ours in image_tokens(tokenizer).items():
        if ours != (theirs := dataclasses.asdict(config)[field]):
            problems.append(f"{_TOKENS[field]} is {ours} to the tokenizer, {theirs} to the model (vision.{field})")
    if not 0 < smallest <= largest:
        problems.append(f"images cannot be scaled to between min_pixels={smallest} and max_pixels={largest}")
    if sizes.max_patches < 1 or sizes.max_patches % config.patches_per_window:
        problems.append(f"max_patches={sizes.max_patches} must be a multiple of a window's {config.patches_per_window}")
    if problems:
        raise ValueError(f"{folder or 'images'}: " + "; ".join(problems))
    return ImageReader(config, processor, sizes.max_patches)


def image_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of the tokens in and around an image, as `VisionConfig` names them.

    Raises:
      ValueError: the tokenizer does not have them.
    """
    return {field: tokenizer.token_id(text) for field, text in _TOKENS.items()}


def _load_processor(config: VisionConfig, folder: str) -> "Qwen2VLImageProcessorPil":
    from transformers import Qwen2VLImageProcessorPil

    if not folder:
        fields = dataclasses.asdict(config)
        return Qwen2VLImageProcessorPil(**{field: fields[field] for field in _PATCH_FIELDS})
    try:
        raw, _ = Qwen2VLImageProcessorPil.get_image_processor_dict(folder)
    except OSError as error:
        raise ValueError(f"{folder}: {_PROCESSOR} is missing or broken ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{folder}: {_PROCESSOR} is missing or broken (it holds {type(raw).__name__}, no fields)")
    return Qwen2VLImageProcessorPil.from_dict(raw)


def _open_image(source: ImageSource) -> Image.Image:
    """Look at the header."""
    if isinstance(source, Image.Image):
        return source
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError as error:
        what = f"{len(source)} bytes that are" if isinstance(source, bytes) else f"{os.fspath(source)!r} is"
        raise ValueError(f"{what} no image that PIL can read") from error


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise ValueError("images of a prompt: " + "; ".join(problems))
