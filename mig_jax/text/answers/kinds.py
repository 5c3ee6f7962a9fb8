"""The kinds of answers, each with all that depends on it, and kinds of your own.

A kind of your own is an `AnswerKind` in a file or package. The config names it for all rows of data, with
`data.columns.kind="=path/file.py:NAME"`, or `"=package.module:NAME"`; rows cannot. Only `compare` is required:

    from mig_jax.text.answers.kinds import AnswerKind

    def compare(response, reference, choices=()):
        return sorted(response.split()) == sorted(reference.split())

    WORDS = AnswerKind(compare)

It runs in a worker process, with a time limit. A response on which it raises an exception is wrong, unless the
reference alone raises one, too.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from mig_jax import parts
from mig_jax.errors import UserError
from mig_jax.text.answers import checks, compare, lenient, variants, votes


@dataclasses.dataclass(frozen=True)
class AnswerKind:
    """What depends on the kind of an answer; `choices` are the texts of the choices, () for an open question.

    compare: (response, reference, choices) → whether the response is right; None if `check` has to decide.
    spell: (reference, choices) → other ways to write the reference answer, for the probes; those that `compare` accepts
      are used.
    vote: (answer, choices) → the key under which equal answers count in a majority vote; "" for the normalized text.
    read: (completion, choices) → the answer in a completion that has no answer block and no box, or None; by default
      the text after "the answer is".
    check: (response, reference) → whether the response is right, or what is wrong with the reference. It runs in a
      worker process, which may hang or crash.
    check_reference: (reference) → the same for the reference alone, in as much work.
    """

    compare: Callable[[str, str, Sequence[str]], bool | None]
    spell: Callable[[str, Sequence[str]], Iterable[str]] | None = None
    vote: Callable[[str, Sequence[str]], str] | None = None
    read: Callable[[str, Sequence[str]], str | None] | lenient.Reader | None = None
    check: Callable[[str, str], bool | str] | None = None
    check_reference: Callable[[str], bool | str] | None = None


def find_kind(name: str) -> AnswerKind:
    """Return a kind by name: ours, or a user's own.

    Raises:
      UserError: there is no such kind, or the user's file cannot be loaded.
    """
    return KINDS[name] if name in KINDS else _find_own(parts.absolute_spec(name))


def is_right(answer: str, reference: str, name: str, choices: Sequence[str] = ()) -> bool:
    """Return whether an answer is right by the comparison of its kind alone, without a worker process."""
    if name not in KINDS:
        return grade_own(name, answer, reference, choices) is True
    return bool(KINDS[name].compare(answer, reference, choices))


def grade_own(name: str, response: str | None, reference: str, choices: Sequence[str]) -> bool | str:
    """Return whether a response is right by a user's own kind, or what is wrong with the reference.

    Without a response, the reference is compared with itself.
    """
    kind = find_kind(name)
    try:
        return bool(kind.compare(reference if response is None else response, reference, choices))
    except Exception as error:
        wrong = f"{name}: {parts.user_traceback(error)}"
    if response is None:
        return wrong
    try:
        kind.compare(reference, reference, choices)
    except Exception:
        return wrong
    return False


@functools.cache
def _find_own(spec: str) -> AnswerKind:
    found: Any = parts.find_part(spec, KINDS, key="kind")
    if not isinstance(found, AnswerKind) and not callable(found):
        raise UserError(
            f"kind={spec!r} is a {type(found).__name__}; must be an AnswerKind, or a function that compares"
        )
    kind: AnswerKind = found if isinstance(found, AnswerKind) else AnswerKind(cast(Any, found))
    if error := parts.signature_error(kind.compare, "response", "reference", "choices"):
        raise UserError(f"kind={spec!r}: its function `compare` {error}")
    return kind


KINDS: dict[str, AnswerKind] = {
    name: AnswerKind(
        function,
        variants.VARIANTS.get(name),
        votes.VOTE_KEYS.get(name),
        lenient.READERS.get(name),
        checks.CHECKS.get(name),
        checks.REFERENCE_CHECKS.get(name),
    )
    for name, function in compare.COMPARISONS.items()
}
