"""Rows of Hugging Face datasets: by their name on the hub, or from a folder that was cloned or downloaded from there.

    hf:openai/gsm8k@train             by name, with the `datasets` package
    hf:openai/gsm8k:socratic@test     another config of it
    hf:~/clones/gsm8k@train           a folder: the data files that its card (README.md) lists, else those it has

Without @split, training takes "train", and evaluation takes "test" or "validation".
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mig_jax.data.row_files import FORMS, form_of, make_rows
from mig_jax.data.row_folders import read_files, split_of
from mig_jax.data.rows import Row, RowError

_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# Splits to read if none is named, the best first, by what they are for.
_DEFAULT_SPLITS = {"train": ("train",), "test": ("test", "validation", "train")}


class HubName(NamedTuple):
    """A dataset: its name or folder, its config and its split; "" for those that are not named."""

    name: str
    config: str
    split: str


def parse_name(text: str) -> HubName:
    """Return the parts of NAME:CONFIG@SPLIT."""
    name, _, split = text.partition("@")
    name, _, config = name.partition(":")
    return HubName(os.path.expanduser(name), config, split)


def name_error(text: str) -> str | None:
    """Return what is wrong with the name of a dataset, None if it is a folder or may be on the hub."""
    name = parse_name(text).name
    if Path(name).is_dir() or _NAME.fullmatch(name):
        return None
    return "no such folder, and no name of the hub such as openai/gsm8k"


def read_hub_rows(text: str, *, purpose: str) -> Iterator[Row]:
    """Yield the rows of a split.

    Args:
      text: see the module docstring.
      purpose: "train" or "test", which chooses the split if the text names none.

    Raises:
      RowError: there is no such dataset, config or split, or no network, or the `datasets` package is missing.
    """
    named = parse_name(text)
    if not Path(named.name).is_dir():
        yield from _download_rows(named, purpose)
        return
    files_of = find_split_files(Path(named.name), named.config)
    yield from read_files(files_of[_choose_split(named, list(files_of), purpose)])


# -------------------------------------------------------------------------------------------------------------- folders


def find_split_files(folder: Path, config: str = "") -> dict[str, list[Path]]:
    """Return the data files of a cloned dataset by split, from its card or else by the names of files and folders.

    Args:
      folder: of the dataset.
      config: named in the card, or a subfolder; "" is the card's default, else its first one.

    Raises:
      RowError: there are no data files, or there is no such config.
    """
    configs = _read_card(folder / "README.md")
    if config and config not in configs and not (folder / config).is_dir():
        raise RowError(f"{folder} has no config {config!r}; available: {', '.join(configs) or 'none'}")
    if configs and (not config or config in configs):
        found = _listed_files(folder, configs[config or next(iter(configs))])
    else:
        found = _files_by_name(folder / config)
    if not any(found.values()):
        raise RowError(f"{folder} has no data files ({', '.join(f'.{form}' for form in FORMS)})")
    return found


def _read_card(card: Path) -> dict[str, Mapping[str, Any]]:
    """Return the configs of a dataset card by name, the default one first; {} if it lists none."""
    if not card.is_file():
        return {}
    header = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8-sig", errors="replace"), re.DOTALL)
    import yaml

    try:
        header_values = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError as error:
        raise RowError(f"{card}: its header is not YAML ({error})") from error
    listed = header_values.get("configs") if isinstance(header_values, Mapping) else None
    listed = listed if isinstance(listed, list) else []
    configs = [entry for entry in listed if isinstance(entry, Mapping) and entry.get("data_files")]
    configs.sort(key=lambda entry: not entry.get("default") and entry.get("config_name") != "default")
    return {str(entry.get("config_name", "default")): entry for entry in configs}


def _listed_files(folder: Path, listed: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Return the files of a config of a card, whose data_files are a list of splits, or patterns of one split."""
    data_files, base = listed["data_files"], folder / str(listed.get("data_dir") or "")
    if isinstance(data_files, Mapping):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    if not (isinstance(data_files, list) and all(isinstance(entry, Mapping) for entry in data_files)):
        data_files = [{"split": "train", "path": data_files}]
    found: dict[str, list[Path]] = {}
    for entry in data_files:
        patterns = entry.get("path") or ()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            given = (Path(str(listed.get("data_dir") or "")), Path(str(pattern)))
            if any(part.is_absolute() or ".." in part.parts for part in given):
                raise RowError(f"{folder / 'README.md'}: {pattern} is not inside of {folder}")
            files = sorted(path for path in base.glob(str(pattern)) if path.is_file())
            found.setdefault(str(entry.get("split", "train")), []).extend(files)
    return found


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the data files below a folder by the split that their names or folders begin with; others are "train"."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and form_of(path) in FORMS and not any(part.startswith(".") for part in parts):
            split = next(filter(None, map(split_of, reversed(parts))), "train")
            found.setdefault(split, []).append(path)
    return found


def _choose_split(named: HubName, available: Sequence[str], purpose: str) -> str:
    split = named.split or next((s for s in _DEFAULT_SPLITS[purpose] if s in available), "")
    split = split or (available[0] if len(available) == 1 else "")
    if split not in available:
        missing = f"no split {split!r}" if split else "name a split, as in @test"
        raise RowError(f"{named.name}: {missing}; available: {', '.join(available)}")
    return split


# ------------------------------------------------------------------------------------------------------------------ hub


def _download_rows(named: HubName, purpose: str) -> Iterator[Row]:
    """Yield the rows of a dataset on the hub, with images as the stored bytes."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]  # of an extra
    except ImportError as error:
        raise RowError(
            f"hf:{named.name} needs the datasets package (pip install 'mig_jax[datasets]'), or a clone: hf:FOLDER"
        ) from error
    try:
        configs = datasets.get_dataset_config_names(named.name)
        config = named.config or ("default" if "default" in configs else configs[0])
        split = _choose_split(named, datasets.get_dataset_split_names(named.name, config), purpose)
        table = datasets.load_dataset(named.name, config, split=split).with_format("arrow")
    except RowError:
        raise
    except Exception as error:  # the package and its network libraries raise many types
        reason = " ".join(str(error).split())[:200]
        raise RowError(
            f"hf:{named.name} cannot be loaded ({type(error).__name__}: {reason}); without a network, clone it where "
            "there is one and give hf:FOLDER"
        ) from error
    rows = (row for batch in table.iter(64) for row in batch.to_pylist())
    yield from make_rows(f"{named.name} ({split})", enumerate(rows, start=1))
