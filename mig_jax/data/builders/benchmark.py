"""The base class of benchmarks: reads published files, converts rows to problems, stores them as array_record by TFDS.

All files of a benchmark are in one folder:

    data_dir/gsm8k/train.jsonl     as published by the authors; placed there by hand, or downloaded
    data_dir/gsm8k/train/1.0.0/    written by TFDS when the split is first used
"""

import fcntl
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import tensorflow_datasets as tfds
from tqdm import tqdm

from mig_jax.data.image_archive import ImageArchive
from mig_jax.data.problem import Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row, RowError, format_errors
from mig_jax.errors import UserError

# Seconds to wait for each response of a server, not for a whole file.
TIMEOUT_S = 30


class BenchmarkError(UserError):
    """A benchmark that cannot be built: files are missing, or rows are not as published."""


class Benchmark(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A benchmark; a subclass names its files and implements `parse_row`.

    The first line of a subclass's docstring is printed by `mig-jax data`.

    name: the name in configs and on the command line.
    FILES: for each split, its published files of rows.
    ARCHIVES: .zip files of images, used by all splits.
    URLS: for each file, where it is downloaded from; a file without an address is placed by hand.
    EVAL_SPLIT: the split that is evaluated if none is named.
    HOMEPAGE, LICENSE, PAPER: shown to users; HOMEPAGE explains how to get files that must be placed by hand.
    """

    FILES: Mapping[str, tuple[str, ...]]
    ARCHIVES: tuple[str, ...] = ()
    URLS: Mapping[str, str] = {}
    EVAL_SPLIT: str = "test"
    HOMEPAGE: str
    LICENSE: str
    PAPER: str = ""

    VERSION = tfds.core.Version("1.0.0")

    def __init_subclass__(cls):
        # Each split is a TFDS config of its own, so that only the splits in use cost time and disk space.
        cls.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=split) for split in cls.FILES]
        super().__init_subclass__(skip_registration=True)

    def __init__(self, *, split: str, data_dir: str | Path):
        super().__init__(config=split, data_dir=str(data_dir), file_format="array_record")
        self.split, self.folder = split, Path(data_dir) / self.name
        self.archives: dict[str, ImageArchive] = {}

    # ------------------------------------------------------------------------------------- implemented by subclasses

    def parse_row(self, row: Row, split: str) -> Problem | None:
        """Return the problem of one row, or None to leave the row out (the subclass's docstring says why).

        Raises:
          RowError: the row is not as published.
        """
        raise NotImplementedError

    def iter_rows(self, split: str, paths: Sequence[Path]) -> Iterator[Row]:
        """Yield the rows of a split from its published files, whose order is that of FILES."""
        del split
        for path in paths:
            yield from read_rows(path)

    # ------------------------------------------------------------------------------------------------ called by TFDS

    def _info(self) -> tfds.core.DatasetInfo:
        text, texts = tfds.features.Text(), tfds.features.Sequence(tfds.features.Text())
        # Images are stored as Text, which TFDS keeps as bytes: the image files stay unchanged.
        features = {
            "id": text, "question": text, "answer": text, "kind": text, "level": text, "subject": text, "source": text,
            "choices": texts, "steps": texts, "images": texts,
        }  # fmt: skip
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            license=self.LICENSE,
            citation=self.PAPER,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # `download_missing` keeps downloads beside the files that are placed by hand
        return {self.split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        errors, ids = [], set()
        for problem in self._iter_problems():
            if isinstance(problem, RowError):
                errors.append(str(problem))
            elif problem.id in ids:
                errors.append(f"id {problem.id!r} appears in several rows")
            else:
                ids.add(problem.id)
                yield problem.id, _encode_example(problem._replace(source=problem.source or self.name))
        if not ids and not errors:
            errors.append(f"no problem in {', '.join(self.files_of_split(self.split))}")
        if errors:
            raise BenchmarkError(format_errors(f"{self.name} ({self.split}) is not as published", errors))

    def _iter_problems(self) -> Iterator[Problem | RowError]:
        """Yield the problem or the error of each row; stop after an error of a whole file."""
        paths = self.find_files()
        try:
            self.archives = {name: ImageArchive(paths[name]) for name in self.ARCHIVES}
            for row in self.iter_rows(self.split, [paths[name] for name in self.FILES[self.split]]):
                try:
                    if row.read_error is not None:
                        raise row.error(row.read_error)
                    problem = self.parse_row(row, self.split)
                except RowError as error:
                    yield error
                    continue
                if problem is not None:
                    yield problem
        except RowError as error:
            yield error

    # ---------------------------------------------------------------------------------------------------------- files

    def files_of_split(self, split: str) -> tuple[str, ...]:
        """Return the names of all published files that a split is built from, image archives included."""
        return (*self.FILES[split], *self.ARCHIVES)

    def find_files(self) -> dict[str, Path]:
        """Return the published files that are in the benchmark's folder, by name; an archive may be unpacked there."""
        names = {name for split in self.FILES for name in self.files_of_split(split)}
        candidates = {name: (self.folder / name, self.folder / name.removesuffix(".zip")) for name in names}
        found = {name: next((p for p in paths if p.exists()), None) for name, paths in candidates.items()}
        return {name: path for name, path in found.items() if path}

    def download_missing(self) -> None:
        """Download the files of the split that are not in the benchmark's folder.

        Raises:
          BenchmarkError: files are missing and cannot be downloaded; lists them with the address of publication.
        """
        missing = []
        for name in self.files_of_split(self.split):
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

    def manifest_path(self) -> Path:
        """Return the path of the file that records the published files a split was built from, with their sizes."""
        return Path(self.data_path).parent / "published.json"

    def file_sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the published files of the split that are present."""
        found = self.find_files()
        return {name: found[name].stat().st_size for name in self.files_of_split(self.split) if name in found}

    def files_changed(self) -> bool:
        """Return whether the size of a published file differs from when the split was built."""
        path = self.manifest_path()
        recorded = json.loads(path.read_text()) if path.exists() else {}
        return any(recorded.get(name, size) != size for name, size in self.file_sizes().items())


def build(benchmark: type[Benchmark], *, split: str, data_dir: str | Path) -> Benchmark:
    """Return the builder of a split, and build the split first if it is not built or its files have changed.

    If another process is building the benchmark, wait for it.

    Raises:
      BenchmarkError: files are missing, rows are not as published, or the folder cannot be written. A failed build
        leaves no partial result.
    """
    folder = Path(data_dir) / benchmark.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")
    except OSError as error:
        raise BenchmarkError(
            f"{benchmark.name} ({split}) cannot be built: {folder} cannot be written ({error.strerror or error}); "
            "choose another data_dir"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        builder = benchmark(split=split, data_dir=data_dir)
        if builder.info.splits and builder.files_changed():
            shutil.rmtree(builder.data_path)
            builder = benchmark(split=split, data_dir=data_dir)
        if not builder.info.splits:
            builder.download_missing()
            builder.download_and_prepare()
            builder.manifest_path().write_text(json.dumps(builder.file_sizes()))
        return builder


def download(url: str, path: Path) -> None:
    """Download a file, completely or not at all.

    Raises:
      OSError: there is no network, no such file, or the transfer is incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = f"{path}.part"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        size = int(response.headers.get("Content-Length") or 0)
        with open(partial, "wb") as file, tqdm.wrapattr(file, "write", total=size, desc=path.name) as counted:
            shutil.copyfileobj(response, cast(Any, counted))
    if size and os.path.getsize(partial) != size:
        raise OSError(f"{url}: incomplete transfer")
    os.replace(partial, path)


class BuiltSplit(Sequence[Problem]):
    """The problems of a split that was built; each is read from disk on access.

    Args:
      source: a TFDS data source over array_record.
    """

    def __init__(self, source: Sequence[Mapping[str, Any]]):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Problem:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for a source of {len(self)} problems")
        return _decode_example(self.source[index])


def _encode_example(problem: Problem) -> dict[str, Any]:
    """Convert a problem to the TFDS schema, without the fields that benchmarks lack and the answer of its solution.

    That answer is the reference answer in every benchmark.
    """
    absent = ("variants", "history", "response", "row")
    fields = {name: value for name, value in problem._asdict().items() if name not in absent}
    solution = fields.pop("solution")
    return fields | {"steps": solution[0] if solution else ()}


def _decode_example(example: Mapping[str, Any]) -> Problem:
    images = tuple(example["images"])
    fields = {name: _decode_text(value) for name, value in example.items() if name != "images"}
    steps = fields.pop("steps")
    return Problem(**fields, images=images, solution=(steps, fields["answer"]) if steps else None)


def _decode_text(value: Any) -> Any:
    """Decode a text or a sequence of texts, which TFDS keeps as bytes."""
    return value.decode() if isinstance(value, bytes) else tuple(item.decode() for item in value)
