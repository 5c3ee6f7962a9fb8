"""Images as the bytes of their files: read from where a row says they are, checked, and shown as data URIs."""

import base64
import io
from pathlib import Path

from PIL import Image


def read_images(references: object, folder: Path) -> tuple[tuple[bytes, ...], list[str]]:
    """The images that a row of a file refers to, and what is wrong with them.

    Args:
      references: should be a list of paths, absolute or from `folder`, of base64 data URIs, and of the bytes of image
        files, which tables hold as {"bytes": …, "path": …}.
      folder: where the file of the row is.

    Returns:
      The bytes of the image files as they are, and the faults; only without faults all are there.
    """
    known = str | bytes | dict
    if not (isinstance(references, list | tuple) and all(isinstance(name, known) for name in references)):
        return (), ["images is not a list of file names, data URIs or images"]
    images, faults = [], []
    for reference in references:
        if isinstance(reference, dict):
            reference = reference.get("bytes") or reference.get("path") or ""
        try:
            images.append(_read(reference, folder))
        except ValueError as error:
            faults.append(f"image {_shorten(str(reference))}: {error}")
    return tuple(images), faults


def image_format(data: bytes) -> str:
    """The format of an image file in lower case, such as "png".

    Raises:
      ValueError: these are not the bytes of an image, or not all of them.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Decoded to the end: `verify` would not notice that half of a JPEG is missing.
            image.load()
            return image.format.lower()
    # The decoders of damaged files raise whatever they stumble over.
    except Exception as error:
        raise ValueError("not an image, or a damaged one") from error


def data_uri(data: bytes) -> str:
    """The image as text that stands for its file in a page."""
    form = image_format(data)
    # Several JPEGs in one file, as some cameras write them; browsers know them by the first.
    form = "jpeg" if form == "mpo" else form
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"


def _read(reference: str | bytes, folder: Path) -> bytes:
    if isinstance(reference, bytes):
        data = reference
    elif reference.startswith("data:"):
        header, _, body = reference.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("a data URI must be base64")
        data = base64.b64decode(body, validate=True)
    else:
        try:
            data = (folder / reference).read_bytes()
        except OSError as error:
            raise ValueError(error.strerror or "cannot be read") from error
    image_format(data)
    return data


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
