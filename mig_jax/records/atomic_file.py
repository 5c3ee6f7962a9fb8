"""Files that are complete or absent, even if the process is killed while it writes; and JSON read back from them."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

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


def read_json_object(path: str | os.PathLike, *, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
      path: the file.
      keys: keys that the object must have.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read, it may be damaged: {error}") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if not isinstance(content, dict) or missing:
        raise UserError(f"{path} is damaged: it lacks {', '.join(missing) or 'an object'}; remove it or restore it")
    return content
