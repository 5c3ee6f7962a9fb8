"""MATH: competition problems with written solutions."""

import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row, RowError

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[^\s$]+")

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_FORMULA = re.compile(
    r"(?<!\\)\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$|\\\[.*?\\\]|\\\(.*?\\\)|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL
)
# A formula is an X by then, and needs no space behind its full stop.
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|(?<=X\.)(?=[A-Z])|\n\s*\n")


class Math(Benchmark):
    r"""12,500 competition problems with written solutions; the answer is what stands in the last box.

    MATH.tar has a file for each problem (MATH.zip, or the folder that was packed, will do as well), so
    MATH/train/algebra/1.json: {"problem": "…", "level": "Level 5", "type": "Algebra", "solution": "… $\\boxed{2}$."}
    """

    name = "math"
    FILES = {"train": ("MATH.tar",), "test": ("MATH.tar",)}
    URLS = {"MATH.tar": "https://people.eecs.berkeley.edu/~hendrycks/MATH.tar"}
    HOMEPAGE = "https://github.com/hendrycks/math"
    LICENCE = "MIT"
    PAPER = "arXiv 2103.03874"

    def find_files(self) -> dict[str, Path]:
        """MATH.tar, in whichever of its forms it is there."""
        forms = (self.folder / name for name in ("MATH.tar", "MATH.zip", "MATH"))
        found = next(filter(Path.exists, forms), None)
        return {"MATH.tar": found} if found else {}

    def rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """The files of a split, with the place of each, such as "train/algebra/1.json", for its id."""
        (path,) = paths
        for number, (name, data) in enumerate(_read_files(path), start=1):
            place = "/".join(name.split("/")[-3:])
            # Some archivers add hidden files.
            if place.startswith(f"{split}/") and place.endswith(".json") and "/." not in place:
                values, broken = _parse_object(data)
                yield Row(f"{path.name}, {place}", number, values | {"id": place}, broken)

    def problem(self, row: Row, split: str) -> Problem:
        solution = row.text("solution")
        boxes = list(_boxes(solution))
        if not boxes or not boxes[-1][2]:
            raise row.fault(r"solution has no \boxed{answer}")
        for start, end, content in reversed(boxes):
            solution = solution[:start] + content + solution[end:]
        answer = boxes[-1][2]
        return Problem(
            id=row.text("id"),
            question=row.text("problem"),
            answer=answer,
            solution=(_sentences(solution), answer),
            level=row.text("level"),
            subject=row.text("type"),
        )


def _read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of all files of a folder or an archive."""
    try:
        if path.is_dir():
            yield from ((p.as_posix(), p.read_bytes()) for p in sorted(path.rglob("*.json")))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())
        else:
            with tarfile.open(path) as archive:
                yield from ((member.name, archive.extractfile(member).read()) for member in archive if member.isfile())
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise RowError(f"{path.name}: no tar or zip file, or a damaged one ({error})") from error


def _parse_object(data: bytes) -> tuple[dict, str]:
    """The fields of a JSON object, and why there are none."""
    try:
        values = json.loads(data)
    except ValueError as error:
        return {}, f"not JSON ({error})"
    return (values, "") if isinstance(values, dict) else ({}, "no object")


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    r"""Where boxes start and end, and what is in them: 2 in \boxed{2}, \fbox{2} and \boxed 2."""
    end = 0
    for box in _BOX.finditer(text):
        if box.start() >= end:
            inner_end, end = _argument_end(text, box.end())
            yield box.start(), end, text[box.end() : inner_end].removeprefix("{").strip()


def _argument_end(text: str, start: int) -> tuple[int, int]:
    """Where an argument of a LaTeX command ends, without and with its closing brace."""
    if not text.startswith("{", start):
        unbraced = _UNBRACED.match(text, start)
        return (unbraced.end() if unbraced else start,) * 2
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return brace.start(), brace.end()
    return start, len(text)  # never closed: what is in it cannot be told


def _sentences(text: str) -> tuple[str, ...]:
    """Sentences and paragraphs, without drawings; formulas stay whole."""
    text = _DRAWING.sub("", text)
    # Formulas are covered, so that no end is found in them; a full stop that ends one still counts.
    covered = _FORMULA.sub(lambda formula: "X" * (len(formula[0]) - 1) + _full_stop(formula[0]), text)
    cuts = [0, *(end.end() for end in _END_OF_SENTENCE.finditer(covered)), len(text)]
    sentences = (" ".join(text[start:end].split()) for start, end in zip(cuts, cuts[1:], strict=False))
    return tuple(filter(None, sentences))


def _full_stop(formula: str) -> str:
    return "." if formula.rstrip("$])\\ \n").endswith(".") else "X"
