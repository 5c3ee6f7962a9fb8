"""Images, and sometimes rows, in the .zip file that a benchmark publishes."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.row_files import make_rows, parse_json_rows
from mig_jax.data.rows import Row, RowError


class ImageArchive:
    """The images of a published .zip file, read one at a time without unpacking, or of the folder it was unpacked to.

    Files are found by the end of their path, because archives differ in their top folders.

    Args:
      path: the .zip file or the folder.

    Raises:
      RowError: the file is not a .zip file, or a damaged one.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip = None if path.is_dir() else _open_zip(path)
        # The folder's own name may be the first part of a requested path.
        names = self._zip.namelist() if self._zip else [p.relative_to(path.parent).as_posix() for p in path.rglob("*")]
        self._name_by_suffix = {suffix: name for name in sorted(names, reverse=True) for suffix in _path_suffixes(name)}
        # Questions about one image are adjacent, so the last image is kept: it is read and checked once.
        self._last_image = ("", b"")

    def read_image(self, row: Row, name: str) -> bytes:
        """Return the bytes of the image that `row` refers to.

        Args:
          row: for error messages.
          name: the end of the image's path in the archive, such as "images/train/1.png".

        Raises:
          RowError: the image is missing or damaged.
        """
        if name != self._last_image[0]:
            try:
                data = self._read(name)
            except RowError as error:
                raise row.error(f"image {error}") from error
            self._last_image = (name, row.checked_image(data, f"image {name}"))
        return self._last_image[1]

    def read_rows(self, name: str, *, under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
        """Yield the rows of a .json file in the archive; arguments as in `row_files.read_rows`.

        Raises:
          RowError: the file is missing, or not JSON.
        """
        yield from make_rows(name, parse_json_rows(name, self._read(name), under=under, without=without))

    def _read(self, name: str) -> bytes:
        """Return the content of a file of the archive.

        Raises:
          RowError: the file is missing or damaged; the message starts with `name`.
        """
        found = self._name_by_suffix.get(name.replace("\\", "/").removeprefix("./").strip("/"))
        if found is None:
            raise RowError(f"{name} is not in {self.path.name}")
        try:
            return self._zip.read(found) if self._zip else (self.path.parent / found).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise RowError(f"{name} cannot be read from {self.path.name} ({error})") from error


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RowError(f"{path.name}: not a zip file, or a damaged one ({error})") from error


def _path_suffixes(name: str) -> Iterator[str]:
    """Yield a/b/c, b/c and c."""
    parts = name.split("/")
    return ("/".join(parts[n:]) for n in range(len(parts)))
