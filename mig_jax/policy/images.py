"""Images to arrays: patches for the vision tower, and the prompt positions of their features.

    reader = make_reader(config.vision, tokenizer, folder, sizes)
    prompts = [reader.read(ids, images) for ids, images in …]      # ids hold one image token for each image
    images = reader.stack(prompts, width)                          # vision.Images, padded to static shapes

transformers' image processor resizes, normalises and cuts into patches (PIL and numpy, no torch).
"""

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mig_jax.config import ModelVisionConfig
from mig_jax.errors import UserError
from mig_jax.models.vision import Grid, Images, Pixels, VisionShape
from mig_jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import Qwen2VLImageProcessorPil

# One image: opened, encoded (PNG, JPEG, …), or the path of a file.
ImageSource = Image.Image | bytes | str | os.PathLike

_PROCESSOR = "preprocessor_config.json"
# Files with the settings of image and video processors, which saved models get from their base.
_PROCESSOR_FILES = (_PROCESSOR, "processor_config.json", "video_preprocessor_config.json")
# What PIL raises for broken files, and for images so large that they may be an attack.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_PATCH_FIELDS = ("patch_size", "temporal_patch_size", "merge_size")
_TOKENS = {"image_token_id": "<|image_pad|>", "start_token_id": "<|vision_start|>", "end_token_id": "<|vision_end|>"}


class PromptImages(NamedTuple):
    """The images of one prompt of S tokens, as J patch slots; only windows are padded, if there are any.

    index_s: `[S]` index of the merged unit that replaces each token; −1 for text.
    position_s3: `[S, 3]` position of each token in time, height and width.
    next: position of the first token after the prompt.
    patch_jc, position_j2, image_j: see `vision.Pixels`.
    """

    index_s: np.ndarray
    position_s3: np.ndarray
    next: int
    patch_jc: np.ndarray
    position_j2: np.ndarray
    image_j: np.ndarray


class Prompt(NamedTuple):
    """A prompt's ids, with one image token per merged unit, and its images (None without a vision tower)."""

    ids: list[int]
    images: PromptImages | None = None

    def append(self, ids: Sequence[int]) -> "Prompt":
        """Return the prompt with more text after it, such as the start of a response."""
        n, images = len(ids), self.images
        if images is not None:
            position_n3 = np.repeat(images.next + np.arange(n, dtype=np.int32)[:, None], 3, axis=1)
            images = images._replace(
                index_s=np.concatenate([images.index_s, np.full(n, -1, np.int32)]),
                position_s3=np.concatenate([images.position_s3, position_n3]),
                next=images.next + n,
            )
        return Prompt([*self.ids, *ids], images)


class PromptSize(NamedTuple):
    """Size of a prompt: tokens, those of its images included, and patch slots, windows padded."""

    tokens: int
    patches: int


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Turns prompts with images into arrays; made by `make_reader`.

    config: shape of the vision tower, and the id of the image token.
    processor: resizes an image and cuts it into patches.
    max_patches: patch slots of all images of a prompt; a multiple of a window's.
    files: the files that the processor was read from, by name; empty if it was not read from a folder.
    """

    config: VisionShape
    processor: "Qwen2VLImageProcessorPil"
    max_patches: int
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    def measure(self, ids: Sequence[int], images: Sequence[ImageSource]) -> PromptSize:
        """Return the size of a prompt, without cutting its images into patches.

        Raises:
          UserError: see `read`; too many patches are no error here.
        """
        grids = self._open(ids, images)[1]
        units = sum(self.config.count_units(grid) for grid in grids)
        return PromptSize(len(ids) - len(grids) + units, sum(self.config.count_slots(grid) for grid in grids))

    def read(self, ids: Sequence[int], images: Sequence[ImageSource]) -> Prompt:
        """Return one prompt with its images.

        Args:
          ids: ids of the prompt, with one image token per image.
          images: the images, in that order.

        Raises:
          UserError: an image is not one, empty, broken, or more than 200 times as long as wide; their number differs
            from that of the image tokens; or they have more patches than `max_patches`. Lists every error.
        """
        opened, grids = self._open(ids, images)
        pixels, errors = [], []
        for number, image in enumerate(opened, 1):
            try:
                pixels.append(ImageOps.exif_transpose(image).convert("RGB"))
            except _UNREADABLE as error:
                errors.append(f"image {number}: {error}")
        slots = sum(self.config.count_slots(grid) for grid in grids)
        if slots > self.max_patches:
            errors.append(
                f"{slots} patches with padding, model.vision.max_patches={self.max_patches}: raise it, or "
                "lower model.vision.max_pixels"
            )
        _raise_all(errors)
        return self._build_prompt(ids, pixels, grids)

    def stack(self, prompts: Sequence[Prompt], width: int) -> Images:
        """Stack Q prompts from `read`, padded on the left to `width` slots as their tokens are; numpy.

        Raises:
          UserError: a prompt is too long.
        """
        if (longest := max(len(prompt.ids) for prompt in prompts)) > width:
            raise UserError(f"a prompt has {longest} tokens with its images, data.max_prompt_tokens={width}")
        questions, slots = len(prompts), self.max_patches
        # Host arrays, in the place of the jax.Arrays that they become on the mesh.
        index_qs: Any = np.full((questions, width), -1, np.int32)
        position_qs3: Any = np.zeros((questions, width, 3), np.int32)
        patch_qjc: Any = np.zeros((questions, slots, self.config.values_per_patch), np.float32)
        position_qj2: Any = np.zeros((questions, slots, 2), np.int32)
        image_qj: Any = np.full((questions, slots), -1, np.int32)
        next_q: Any = np.zeros(questions, np.int32)
        for row, (ids, images) in enumerate(prompts):
            if images is None:
                raise ValueError("a prompt was not read by an image reader")
            start, end = width - len(ids), len(images.image_j)
            next_q[row] = images.next
            index_qs[row, start:], position_qs3[row, start:] = images.index_s, images.position_s3
            patch_qjc[row, :end], position_qj2[row, :end] = images.patch_jc, images.position_j2
            image_qj[row, :end] = images.image_j
        return Images(index_qs, position_qs3, next_q, Pixels(patch_qjc, position_qj2, image_qj))

    def save(self, folder: str | os.PathLike) -> None:
        """Write preprocessor_config.json for transformers and `make_reader`: that of the base model, if there is one.

        Its limits are wider than those of a run (`model.vision.max_pixels`), which are in the run's config.
        """
        for name, content in self.files.items():
            (Path(folder) / name).write_bytes(content)
        if not self.files:
            size, raw = cast(Any, self.processor.size), self.processor.to_dict()
            # transformers 4 ignores `size` but for these names of its parts.
            raw |= {"min_pixels": size.shortest_edge, "max_pixels": size.longest_edge}
            (Path(folder) / _PROCESSOR).write_text(json.dumps(raw, indent=2, default=dict) + "\n", encoding="utf-8")

    def _open(self, ids: Sequence[int], images: Sequence[ImageSource]) -> tuple[list[Image.Image], list[Grid]]:
        """Open the images without decoding them, and return how many patches each will have."""
        opened, grids, errors = [], [], []
        for number, source in enumerate(images, 1):
            try:
                image = _open_image(source)
                grids.append(self._grid(image))
            except _UNREADABLE as error:
                errors.append(f"image {number}: {error}")
            else:
                opened.append(image)
        n_tokens = sum(token == self.config.image_token_id for token in ids)
        if n_tokens != len(images):
            errors.append(f"{len(images)} images for {n_tokens} image tokens (id {self.config.image_token_id})")
        _raise_all(errors)
        return opened, grids

    def _grid(self, image: Image.Image) -> Grid:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        # EXIF orientations 5 to 8 swap height and width. PNG's own getexif would decode the whole image, because the
        # tag may be at its end.
        is_rotated = Image.Image.getexif(image).get(0x0112, 1) >= 5
        height, width = image.size if is_rotated else image.size[::-1]
        c, size = self.config, cast(Any, self.processor.size)
        if not height or not width:
            raise UserError(f"no pixels ({width} × {height})")
        unit = c.patch_size * c.merge_size
        resized = height, width
        if self.processor.do_resize:
            resized = smart_resize(height, width, unit, size.shortest_edge, size.longest_edge)
        elif height % unit or width % unit:
            raise UserError(
                f"{width} × {height} pixels, but do_resize is false in {_PROCESSOR}: both sides must be multiples of "
                f"{unit}"
            )
        return Grid(*(pixels // c.patch_size for pixels in resized))

    def _build_prompt(self, ids: Sequence[int], images: Sequence[Image.Image], grids: Sequence[Grid]) -> Prompt:
        """Repeat image tokens and build the arrays of one prompt."""
        layouts = [self.config.layout(grid) for grid in grids]
        units = iter([len(layout.unit_i) for layout in layouts])
        image_token = self.config.image_token_id
        repeats = [next(units) if token == image_token else 1 for token in ids]
        ids = np.repeat(np.asarray(ids, np.int64), repeats).tolist()
        is_image_s = np.array(ids) == image_token
        position_s3, after = self.config.positions(is_image_s, grids)

        first_slot = np.cumsum([0, *(len(layout.patch_j) for layout in layouts)])
        index_s = np.full(len(ids), -1, np.int32)
        nothing = np.zeros(0, np.int32)
        firsts = first_slot // self.config.patches_per_unit
        index_s[is_image_s] = np.concatenate(
            [nothing, *(first + layout.unit_i for first, layout in zip(firsts[:-1], layouts, strict=True))]
        )
        patch_jc = np.zeros((first_slot[-1], self.config.values_per_patch), np.float32)
        image_j = np.full(first_slot[-1], -1, np.int32)
        for number, (image, layout) in enumerate(zip(images, layouts, strict=True)):
            slots, is_patch_j = slice(*first_slot[number : number + 2]), layout.patch_j >= 0
            patch_mc = self.processor(images=[image], return_tensors="np")["pixel_values"]
            patch_jc[slots][is_patch_j] = patch_mc[layout.patch_j[is_patch_j]]
            image_j[slots][is_patch_j] = number
        position_j2 = np.concatenate([nothing.reshape(0, 2), *(layout.position_j2 for layout in layouts)])
        return Prompt(ids, PromptImages(index_s, position_s3, after, patch_jc, position_j2, image_j))


def make_reader(config: VisionShape, tokenizer: Tokenizer, folder: str, sizes: ModelVisionConfig) -> ImageReader:
    """Return the reader of a model's images.

    Args:
      config: shape of the vision tower.
      tokenizer: has the image tokens.
      folder: folder of the model, whose preprocessor_config.json has the color statistics; "" for the family's own.
      sizes: `max_patches`; `min_pixels` and `max_pixels`, to which images are scaled (0: the folder's).

    Raises:
      UserError: the folder's file is missing, broken, or does not fit the vision tower; sizes are impossible; or the
        tokenizer has other image tokens. Lists every error.
    """
    processor = _load_processor(config, folder)
    smallest = sizes.min_pixels or processor.size["shortest_edge"]
    largest = sizes.max_pixels or processor.size["longest_edge"]
    processor.size = type(processor.size)(shortest_edge=smallest, longest_edge=largest)
    errors = []
    for field in _PATCH_FIELDS:
        ours, theirs = getattr(config, field), processor.to_dict()[field]
        if ours != theirs:
            errors.append(f"{field} is {theirs} in {_PROCESSOR}, {ours} in config.json")
    for field, ours in image_tokens(tokenizer).items():
        if ours != (theirs := getattr(config, field)):
            errors.append(f"{_TOKENS[field]} is {ours} in the tokenizer, {theirs} in the model (vision.{field})")
    if not 0 < smallest <= largest:
        errors.append(f"min_pixels={smallest} and max_pixels={largest} must be positive and in this order")
    if sizes.max_patches < 1 or sizes.max_patches % config.patches_per_window:
        unit = config.patches_per_window
        errors.append(f"max_patches={sizes.max_patches} must be a multiple of {unit}, the patches of a window or unit")
    if errors:
        raise UserError(f"{folder or 'images'}: " + "; ".join(errors))
    return ImageReader(config, processor, sizes.max_patches, _read_files(folder) if folder else {})


def _read_files(folder: str) -> dict[str, bytes]:
    paths = [Path(folder) / name for name in _PROCESSOR_FILES]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def image_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the image tokens, under the names of `VisionShape`.

    Raises:
      UserError: the tokenizer does not have them.
    """
    return {field: tokenizer.token_id(text) for field, text in _TOKENS.items()}


def _load_processor(config: VisionShape, folder: str) -> "Qwen2VLImageProcessorPil":
    from transformers import Qwen2VLImageProcessorPil

    if not folder:
        return Qwen2VLImageProcessorPil(**{field: getattr(config, field) for field in _PATCH_FIELDS})
    try:
        raw, _ = Qwen2VLImageProcessorPil.get_image_processor_dict(folder)
    except OSError as error:
        raise UserError(f"{folder}: {_PROCESSOR} is missing or broken ({error})") from error
    if not isinstance(raw, dict):
        raise UserError(
            f"{folder}: {_PROCESSOR} is missing or broken (it contains {type(raw).__name__}, not an object)"
        )
    return cast(Qwen2VLImageProcessorPil, Qwen2VLImageProcessorPil.from_dict(raw))


def _open_image(source: ImageSource) -> Image.Image:
    """Read the header of an image."""
    if isinstance(source, Image.Image):
        return source
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError as error:
        what = f"{len(source)} bytes that are" if isinstance(source, bytes) else f"{os.fspath(source)!r} is"
        raise UserError(f"{what} no image that PIL can read") from error


def _raise_all(errors: Sequence[str]) -> None:
    if errors:
        raise UserError("images of a prompt: " + "; ".join(errors))
