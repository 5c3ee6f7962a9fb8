"""Text files that are complete or absent, even if the process is killed while it writes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mig_jax.errors import UserError


@contextlib.contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing that replaces `path` when the block ends without an error.

    Creates the folder if needed. Until then the text is in `path` + ".tmp".

    Raises:
      UserError: the file cannot be written.
    """
    temporary = f"{os.fspath(path)}.tmp"
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
