"""What all benchmarks share: published files in, one schema of problems out, kept as array_record by TFDS.

Everything of a benchmark is in one folder:

    data_dir/gsm8k/train.jsonl     as its authors publish it; put there by hand, or downloaded
    data_dir/gsm8k/train/1.0.0/    what TFDS has made of a split, when it was first asked for
"""

import fcntl
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from mig_jax.data.image_archive import ImageArchive
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row, RowError, format_errors

# For a server to answer, not for the whole of a file.
TIMEOUT_S = 30


class BenchmarkError(ValueError):
    """A benchmark that cannot be built: files are missing, or are not as published."""


class Benchmark(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A benchmark; a subclass says which files there are, and what problem a row of them is.

    name: in configs and on the command line.
    FILES: the published files of rows of each split, by split.
    ARCHIVES: .zip files of images that all splits need.
    URLS: where a file is downloaded from; one without an address is put there by hand.
    EVAL_SPLIT: what is evaluated when no split is named.
    HOMEPAGE, LICENCE, PAPER: for people; what to do by hand is said at HOMEPAGE.
    """

    FILES: Mapping[str, tuple[str, ...]]
    ARCHIVES: tuple[str, ...] = ()
    URLS: Mapping[str, str] = {}
    EVAL_SPLIT: str = "test"
    HOMEPAGE: str
    LICENCE: str
    PAPER: str = ""

    VERSION = tfds.core.Version("1.0.0")

    def __init_subclass__(cls):
        # A split is a config of its own to TFDS, so that nobody waits, or pays in disk, for what nobody asks for.
        cls.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=split) for split in cls.FILES]
        super().__init_subclass__(skip_registration=True)

    def __init__(self, *, split: str, data_dir: str | Path):
        super().__init__(config=split, data_dir=str(data_dir), file_format="array_record")
        self.split, self.folder = split, Path(data_dir) / self.name

    # ------------------------------------------------------------------------------- what a benchmark says of itself

    def problem(self, row: Row, split: str) -> Problem | None:
        """The problem of one row, or None where the row is none (say why, in the docstring).

        Raises:
          RowError: the row is not as published.
        """
        raise NotImplementedError

    def rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """The rows of the published files of a split."""
        del split
        for path in paths:
            yield from read_rows(path)

    # ----------------------------------------------------------------------------------------- what TFDS asks of it

    def _info(self) -> tfds.core.DatasetInfo:
        text, texts = tfds.features.Text(), tfds.features.Sequence(tfds.features.Text())
        # The bytes of image files are kept as they are: texts are bytes to TFDS.
        features = {
            "id": text, "question": text, "answer": text, "kind": text, "level": text, "subject": text, "source": text,
            "choices": texts, "steps": texts, "images": texts,
        }  # fmt: skip
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            license=self.LICENCE,
            citation=self.PAPER,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # see `fetch`: what is published stays beside what is put there by hand
        return {self.split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        faults, ids = [], set()
        for problem in self._problems():
            if isinstance(problem, RowError):
                faults.append(str(problem))
            elif problem.id in ids:
                faults.append(f"id {problem.id!r} stands in several rows")
            else:
                ids.add(problem.id)
                yield problem.id, _encode(problem._replace(source=problem.source or self.name))
        if not ids and not faults:
            faults.append(f"no problem in {', '.join(self.files_of(self.split))}")
        if faults:
            raise BenchmarkError(format_errors(f"{self.name} ({self.split}) is not as published", faults))

    def _problems(self) -> Iterator[Problem | RowError]:
        """The problems of all rows, and what is wrong with others; behind a fault of a file itself nothing is read."""
        paths = self.find_files()
        try:
            self.archives = {name: ImageArchive(paths[name]) for name in self.ARCHIVES}
            for row in self.rows(self.split, [paths[name] for name in self.FILES[self.split]]):
                try:
                    if row.broken:
                        raise row.fault(row.broken)
                    problem = self.problem(row, self.split)
                except RowError as error:
                    yield error
                    continue
                if problem is not None:
                    yield problem
        except RowError as error:
            yield error

    # ---------------------------------------------------------------------------------------------------------- files

    def files_of(self, split: str) -> tuple[str, ...]:
        """All published files that a split is built from, images included."""
        return (*self.FILES[split], *self.ARCHIVES)

    def find_files(self) -> dict[str, Path]:
        """The published files that are in the benchmark's folder, by name; an archive may be unpacked there."""
        names = {name for split in self.FILES for name in self.files_of(split)}
        places = {name: (self.folder / name, self.folder / name.removesuffix(".zip")) for name in names}
        found = {name: next((p for p in both if p.exists()), None) for name, both in places.items()}
        return {name: path for name, path in found.items() if path}

    def fetch(self) -> None:
        """See to it that all files of the split are in the benchmark's folder.

        Raises:
          BenchmarkError: some are not there and cannot be downloaded; says which, and where they are published.
        """
        missing = []
        for name in self.files_of(self.split):
            if name not in self.find_files():
                url, reason = self.URLS.get(name), ""
                try:
                    if url:
                        download(url, self.folder / name)
                        continue
                except OSError as error:
                    reason = f" (could not be downloaded: {error})"
                missing.append(f"{self.folder / name} is missing; published at {url or self.HOMEPAGE}{reason}")
        if missing:
            raise BenchmarkError(format_errors(f"{self.name} ({self.split}) cannot be built", missing))

    def record(self) -> Path:
        """Where it stands from which files the split was built."""
        return Path(self.data_path).parent / "published.json"

    def sizes(self) -> dict[str, int]:
        """Bytes of the published files of the split that are there as files."""
        found = self.find_files()
        return {name: found[name].stat().st_size for name in self.files_of(self.split) if name in found}

    def has_changed(self) -> bool:
        """Has a published file been put in the place of one that the split was built from?"""
        before = json.loads(self.record().read_text()) if self.record().exists() else {}
        return any(before.get(name, size) != size for name, size in self.sizes().items())


def build(benchmark: type[Benchmark], *, split: str, data_dir: str | Path) -> Benchmark:
    """The builder of a split of a benchmark, built now unless it was before, or is by another process.

    Raises:
      BenchmarkError: files of the split are missing, or rows are not as published; nothing is half built.
    """
    folder = Path(data_dir) / benchmark.name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        builder = benchmark(split=split, data_dir=data_dir)
        if builder.info.splits and builder.has_changed():
            shutil.rmtree(builder.data_path)
            builder = benchmark(split=split, data_dir=data_dir)
        if not builder.info.splits:
            builder.fetch()
            builder.download_and_prepare()
            builder.record().write_text(json.dumps(builder.sizes()))
        return builder


def download(url: str, path: Path) -> None:
    """Fetch a file, whole or not at all.

    Raises:
      OSError: there is no network, or no such file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        size = int(response.headers.get("Content-Length") or 0)
        with open(f"{path}.part", "wb") as file, tqdm.wrapattr(file, "write", total=size, desc=path.name) as counted:
            shutil.copyfileobj(response, counted)
    if size and os.path.getsize(f"{path}.part") != size:
        raise OSError(f"{url} broke off")
    os.replace(f"{path}.part", path)


class Records(Sequence[Problem]):
    """The problems of a split that was built; each is read from disk when it is asked for.

    Args:
      source: of TFDS, over array_record.
    """

    def __init__(self, source: Sequence[Mapping[str, Any]]):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a source of {len(self)}")
        return _decode(self.source[index])


def _encode(problem: Problem) -> dict[str, Any]:
    """A problem as TFDS keeps it; its demonstration's answer is the reference, and no spelling was found yet."""
    fields = problem._asdict()
    del fields["variants"]
    solution = fields.pop("solution")
    return fields | {"steps": solution[0] if solution else ()}


def _decode(example: Mapping[str, Any]) -> Problem:
    images = tuple(example["images"])
    fields = {name: _text(value) for name, value in example.items() if name != "images"}
    steps = fields.pop("steps")
    return Problem(**fields, images=images, solution=(steps, fields["answer"]) if steps else None)


def _text(value: Any) -> Any:
    """TFDS keeps texts as bytes."""
    return value.decode() if isinstance(value, bytes) else tuple(item.decode() for item in value)
