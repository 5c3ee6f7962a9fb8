"""Image files as bytes: read from the references in a row, checked, and converted to data URIs."""

import base64
import io
from pathlib import Path

from PIL import Image

from mig_jax.errors import UserError


def read_images(references: object, folder: Path) -> tuple[tuple[bytes, ...], list[str]]:
    """Read the images that a row of a file refers to.

    Args:
      references: a list of paths (absolute, or relative to `folder`), base64 data URIs, and bytes of image files, which
        tables hold as {"bytes": …, "path": …}.
      folder: where the row's file is.

    Returns:
      The unchanged bytes of the image files, and the error messages. Images with errors are left out.
    """
    allowed = str | bytes | dict
    if not (isinstance(references, list | tuple) and all(isinstance(item, allowed) for item in references)):
        return (), ["images is not a list of file names, data URIs or images"]
    images, errors = [], []
    for reference in references:
        if isinstance(reference, dict):
            reference = reference.get("bytes") or reference.get("path") or ""
        try:
            images.append(_read_image(reference, folder))
        except ValueError as error:
            errors.append(f"image {_truncate(str(reference))}: {error}")
    return tuple(images), errors


def image_format(data: bytes) -> str:
    """Return the format of an image file in lower case, such as "png".

    Raises:
      UserError: these are not the bytes of a whole image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Decode all of it: `verify` would miss that half of a JPEG is absent.
            image.load()
            return str(image.format).lower()
    # Decoders raise many types on damaged files.
    except Exception as error:
        raise UserError("not an image, or a damaged one") from error


def data_uri(data: bytes) -> str:
    """Return the data URI of an image file, for use in an HTML page.

    Raises:
      UserError: these are not the bytes of a whole image.
    """
    format_name = image_format(data)
    # MPO is several JPEGs in one file, as some cameras write; browsers show the first.
    format_name = "jpeg" if format_name == "mpo" else format_name
    return f"data:image/{format_name};base64,{base64.b64encode(data).decode()}"


def _read_image(reference: str | bytes, folder: Path) -> bytes:
    """Return the bytes of one image file.

    Raises:
      ValueError: the reference cannot be read, or is not a whole image.
    """
    if isinstance(reference, bytes):
        data = reference
    elif reference.startswith("data:"):
        header, _, body = reference.partition(",")
        if not header.endswith(";base64"):
            raise UserError("a data URI must be base64")
        data = base64.b64decode(body, validate=True)
    else:
        try:
            data = (folder / reference).read_bytes()
        except OSError as error:
            raise UserError(error.strerror or "cannot be read") from error
    image_format(data)
    return data


def _truncate(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
