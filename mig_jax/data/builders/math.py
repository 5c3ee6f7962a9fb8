"""MATH: competition problems with written solutions."""

import itertools
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, RowError, json_type

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[^\s$]+")

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_FORMULA = re.compile(
    r"(?<!\\)\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$|\\\[.*?\\\]|\\\(.*?\\\)|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL
)
# Applied to text in which each formula is masked by X. A full stop that ends a formula needs no space after it.
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|(?<=X\.)(?=[A-Z])|\n\s*\n")


class Math(Benchmark):
    r"""12,500 competition problems with written solutions; the answer is the content of the last box.

    MATH.tar (or MATH.zip, or the unpacked folder) has one file per problem, such as
    MATH/train/algebra/1.json: {"problem": "…", "level": "Level 5", "type": "Algebra", "solution": "… $\\boxed{2}$."}
    """

    name = "math"
    FILES = {"train": ("MATH.tar",), "test": ("MATH.tar",)}
    URLS = {"MATH.tar": "https://people.eecs.berkeley.edu/~hendrycks/MATH.tar"}
    HOMEPAGE = "https://github.com/hendrycks/math"
    LICENSE = "MIT"
    PAPER = "arXiv 2103.03874"

    def find_files(self) -> dict[str, Path]:
        """Return MATH.tar in the form that is present: tar, zip or folder."""
        forms = (self.folder / name for name in ("MATH.tar", "MATH.zip", "MATH"))
        found = next(filter(Path.exists, forms), None)
        return {"MATH.tar": found} if found else {}

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the files of a split, with the end of each path, such as "train/algebra/1.json", as id."""
        (path,) = paths
        for number, (name, data) in enumerate(_read_files(path), start=1):
            id_ = "/".join(name.split("/")[-3:])
            # Some archivers add hidden files.
            if id_.startswith(f"{split}/") and id_.endswith(".json") and "/." not in id_:
                values, read_error = _parse_object(data)
                yield Row(f"{path.name}, {id_}", number, values | {"id": id_}, read_error)

    def parse_row(self, row: Row, split: str) -> Problem:
        solution = row.text("solution")
        boxes = list(_boxes(solution))
        if not boxes or not boxes[-1].content:
            raise row.error(r"solution has no \boxed{answer}")
        for start, end, content in reversed(boxes):
            solution = solution[:start] + content + solution[end:]
        answer = boxes[-1].content
        return Problem(
            id=row.text("id"),
            question=row.text("problem"),
            answer=answer,
            solution=(_sentences(solution), answer),
            level=row.text("level"),
            subject=row.text("type"),
        )


def _read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of all files of a folder or an archive.

    Raises:
      RowError: the archive is damaged, or not an archive.
    """
    try:
        if path.is_dir():
            yield from ((p.as_posix(), p.read_bytes()) for p in sorted(path.rglob("*.json")))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    if file := archive.extractfile(member) if member.isfile() else None:
                        yield member.name, file.read()
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise RowError(f"{path.name}: not a tar or zip file, or a damaged one ({error})") from error


def _parse_object(data: bytes) -> tuple[dict[str, Any], str | None]:
    """Return the fields of a JSON object and None, or no fields and the reason."""
    try:
        values = json.loads(data)
    except ValueError as error:
        return {}, f"not JSON ({error})"
    return (values, None) if isinstance(values, dict) else ({}, f"{json_type(values)}, not an object")


class _Box(NamedTuple):
    """A box in a LaTeX text, from `start` up to `end`."""

    start: int
    end: int
    content: str


def _boxes(text: str) -> Iterator[_Box]:
    r"""Yield the outermost boxes of a text; the content of \boxed{2}, \fbox{2} and \boxed 2 is 2."""
    end = 0
    for box in _BOX.finditer(text):
        if box.start() >= end:
            inner_end, end = _argument_end(text, box.end())
            yield _Box(box.start(), end, text[box.end() : inner_end].removeprefix("{").strip())


def _argument_end(text: str, start: int) -> tuple[int, int]:
    """Return where the argument of a LaTeX command ends, without and with its closing brace.

    An argument that is never closed is empty and takes the rest of the text.
    """
    if not text.startswith("{", start):
        unbraced = _UNBRACED.match(text, start)
        end = unbraced.end() if unbraced else start
        return end, end
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return brace.start(), brace.end()
    return start, len(text)


def _sentences(text: str) -> tuple[str, ...]:
    """Split a text at sentences and paragraphs, without splitting formulas; drawings are dropped."""
    text = _DRAWING.sub("", text)
    # Formulas are masked, so that they are not split; a full stop that ends one still ends a sentence.
    masked = _FORMULA.sub(lambda formula: "X" * (len(formula[0]) - 1) + _full_stop(formula[0]), text)
    bounds = [0, *(end.end() for end in _END_OF_SENTENCE.finditer(masked)), len(text)]
    sentences = (" ".join(text[start:end].split()) for start, end in itertools.pairwise(bounds))
    return tuple(filter(None, sentences))


def _full_stop(formula: str) -> str:
    """Return the mask of the last character of a formula: a full stop if the formula ends with one, else X."""
    return "." if formula.rstrip("$])\\ \n").endswith(".") else "X"
