"""Write docs/config.md, the table of every config key, from configs/default.py.

    python -m tools.docs_config            write the page
    python -m tools.docs_config --check    exit with 1 if the page is out of date

The defaults are those of `get_config()`. The meaning of a key is its comment: at the end of its lines, and on the lines
right above it. Types come from `mig_jax.config`, allowed values from `mig_jax.check_config.CHOICES`.
"""

import argparse
import re
import sys
import typing
from pathlib import Path
from typing import Any

from mig_jax.configs import default

from mig_jax import check_config, check_parts
from mig_jax import config as config_types
from mig_jax.config_comments import read_comments
from mig_jax.config_file import flatten

PAGE = Path(__file__).resolve().parent.parent / "docs" / "config.md"
COMMAND = "python -m tools.docs_config"
INTRO = f"""# Configuration

<!-- Generated from configs/default.py by `{COMMAND}`; do not edit. -->

A config is a Python file with a function `get_config()` that returns an `ml_collections.ConfigDict`.
`configs/default.py` holds every key with its default; other configs start from it and change a few lines:

```python
from mig_jax.configs import default

def get_config():
    c = default.get_config()
    c.model.path = "Qwen/Qwen2.5-0.5B-Instruct"
    c.rollout.group_size = 16
    return c
```

The command line overrides any key: `mig-jax train --config=FILE.py --workdir=DIR --config.rollout.group_size=16`.
An unknown key is an error, and the message suggests the nearest name. All errors of a config are reported together,
before anything is compiled. `mig_jax.config` has the same keys with their types, for editors and type checkers.
"""


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description="Write docs/config.md from configs/default.py.")
    parser.add_argument("--check", action="store_true", help="only check whether the page is up to date")
    page = render()
    if not parser.parse_args().check:
        PAGE.write_text(page, encoding="utf-8")
    elif page != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE} is out of date: run {COMMAND}")


def render() -> str:
    """Return the page as Markdown: a table for each section of the config, in the order of the source.

    Raises:
      ValueError: the source does not assign every key in the form that `read_comments` expects.
    """
    config = flatten(default.get_config())
    comments = read_comments(Path(default.__file__).read_text(encoding="utf-8"))
    if missing := sorted(config.keys() - comments.keys()):
        raise ValueError(f"{default.__file__}: no line `section.key = value` for {', '.join(missing)}")
    rows: dict[str, list[str]] = {}
    for path, meaning in comments.items():
        if path in config:
            rows.setdefault(path.rpartition(".")[0], []).append(_row(path, config[path], meaning))
    return INTRO + "".join(_table(section, comments.get(section, ""), lines) for section, lines in rows.items())


def _table(section: str, about: str, rows: list[str]) -> str:
    title = f"## `{section}`" if section else "## Top level"
    about = f"{about[0].upper()}{about[1:]}.\n\n" if about else ""
    return f"\n{title}\n\n{about}| key | type | default | meaning |\n|---|---|---|---|\n{''.join(rows)}"


def _row(path: str, value: object, meaning: str) -> str:
    hint: Any = config_types.Config
    for key in path.split("."):
        hint = typing.get_type_hints(hint)[key]
    kind = hint.__name__ if isinstance(hint, type) else str(hint)
    choices = check_config.CHOICES.get(path, ()) or check_parts.names(path)
    is_listed = all(choice in meaning for choice in choices)
    allowed = "" if is_listed else "; one of " + ", ".join(f'`"{choice}"`' for choice in choices)
    return f"| `{path}` | {kind} | `{value!r}` | {_escape(meaning)}{allowed} |\n"


def _escape(text: str) -> str:
    """Escape what Markdown reads as a column, an emphasis or HTML, except in `code`."""
    return re.sub(r"(`[^`]*`)|([|*<])", lambda match: match[1] or "\\" + match[2], text)


if __name__ == "__main__":
    main()
