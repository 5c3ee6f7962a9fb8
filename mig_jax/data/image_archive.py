"""Archive."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.row_files import make_rows, parse_json_rows
from mig_jax.data.rows import Row, RowError


class ImageArchive:
    """The images of a published .zip file, read one by one without unpacking it, or of a folder where it was unpacked.

    Some have the questions beside the images: `rows`.

    Args:
      path: of the .zip file or the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip = None if path.is_dir() else _open_zip(path)
        # Archives differ in the folder that everything is in: names are found by how they end. The folder's own name
        # may be part of one.
        names = self._zip.namelist() if self._zip else [p.relative_to(path.parent).as_posix() for p in path.rglob("*")]
        self._by_ending = {ending: name for name in sorted(names, reverse=True) for ending in _endings(name)}
        # Questions about one image follow each other: it is read and checked once.
        self._last = ("", b"")

    def read(self, row: Row, name: str) -> bytes:
        """The image that `row` refers to, such as "images/train/1.png" wherever in the archive that stands.

        Raises:
          RowError: it is not there, or damaged.
        """
        if name != self._last[0]:
            try:
                data = self._read(name)
            except ValueError as error:
                raise row.fault(f"image {name} {error}") from error
            self._last = (name, row.checked_image(data, f"image {name}"))
        return self._last[1]

    def rows(self, name: str, *, under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
        """The rows of a .json file in the archive; all else is as `read_rows` has it.

        Raises:
          RowError: it is not there, or not JSON.
        """
        try:
            data = self._read(name)
        except ValueError as error:
            raise RowError(f"{name} {error}") from error
        yield from make_rows(name, parse_json_rows(name, data, under, without))

    def _read(self, name: str) -> bytes:
        found = self._by_ending.get(name.replace("\\", "/").removeprefix("./").strip("/"))
        if found is None:
            raise ValueError(f"is not in {self.path.name}")
        try:
            return self._zip.read(found) if self._zip else (self.path.parent / found).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"cannot be read from {self.path.name} ({error})") from error


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RowError(f"{path.name}: not a zip file, or a damaged one ({error})") from error


def _endings(name: str) -> Iterator[str]:
    """a/b/c, b/c and c."""
    parts = name.split("/")
    return ("/".join(parts[n:]) for n in range(len(parts)))
