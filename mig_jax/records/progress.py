"""Progress bars at terminals and in notebooks; none in files, where every refresh would be a line."""

import sys
from typing import Any

from tqdm import tqdm


def progress(*args: Any, **options: Any) -> tqdm:
    """Return `tqdm(*args, **options)`, disabled unless standard error is a terminal or a notebook's cell."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal and "ipykernel" not in sys.modules:
        options["disable"] = True
    return tqdm(*args, **options)
