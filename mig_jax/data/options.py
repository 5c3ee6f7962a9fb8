"""Options of generated sources, such as `terms=7,slip_prob=0.25`, and suggestions for mistyped names."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from mig_jax.errors import UserError


class Option(NamedTuple):
    """One option of a source.

    parse: converts the typed text; raises ValueError if it cannot.
    type_name: what the text must be, with its article, for error messages.
    default: the value of an option that is left out; None makes the option required.
    """

    parse: Callable[[str], Any]
    type_name: str
    default: Any


# Former name of an option → its present name.
RENAMED_OPTIONS = {"noise": "slip_prob", "haste": "early_guess_prob"}


def read_options(name: str, text: str, known: Mapping[str, Option]) -> dict[str, Any]:
    """Parse the options of a source.

    Args:
      name: the full name of the source, for error messages.
      text: comma-separated `key=value` items.
      known: the options of this source.

    Returns:
      The values of all known options.

    Raises:
      UserError: options are unknown, required but missing, or cannot be parsed; all of them are listed.
    """
    options, errors = {key: option.default for key, option in known.items()}, []
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            present = RENAMED_OPTIONS.get(key)
            hint = f" (now called {present})" if present in known else did_you_mean(key, known)
            errors.append(f"unknown option {key!r}{hint}")
            continue
        try:
            options[key] = known[key].parse(value)
        except ValueError:
            errors.append(f"{key}={value!r} is not {known[key].type_name}")
    missing = [f"option {key} is missing" for key, value in options.items() if value is None]
    if errors or missing:
        raise UserError(f"source {name!r}: " + "; ".join(errors or missing))
    return options


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" with the known words closest to `word`, "" if none is close."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def check_probabilities(**values: float) -> None:
    """Check that each value is a probability.

    Raises:
      UserError: names a value that is outside [0, 1].
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} must be a probability from 0 to 1, got {value}")
