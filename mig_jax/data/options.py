"""Names of sources and their options, as they are typed, and what to say of those that are not known."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

# How an option is read, what it should have been, and its value when it is left out; None: it must be given.
Option = tuple[Callable[[str], Any], str, Any]

# Old name of an option -> its name now.
RENAMED = {"noise": "slip_prob", "haste": "early_guess_prob"}


def read_options(name: str, text: str, known: dict[str, Option]) -> dict[str, Any]:
    """The options of `terms=7,slip_prob=0.25`.

    Raises:
      ValueError: options are unknown, missing or cannot be read; all of them are listed.
    """
    options, faults = {key: default for key, (_, _, default) in known.items()}, []
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            renamed = f" (now called {RENAMED[key]})" if RENAMED.get(key) in known else ""
            faults.append(f"no option {key!r}{renamed or did_you_mean(key, known)}")
            continue
        read, kind, _ = known[key]
        try:
            options[key] = read(value)
        except ValueError:
            faults.append(f"{key}={value!r} is no {kind}")
    missing = [f"option {key} is missing" for key, value in options.items() if value is None]
    if faults or missing:
        raise ValueError(f"source {name!r}: " + "; ".join(faults or missing))
    return options


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """In brackets what may have been meant; nothing when no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
