"""Parts by name: ours from a table, and a user's own from a package or a file.

Every kind of part (rewards, losses, credit rules, response formats, …) has one table, and one key of the config names
the part that is used:

    "clip"                        a name of the table
    "package.module:my_loss"      an attribute of a module that can be imported
    "path/file.py:my_loss"        an attribute of a Python file; ~ is expanded

Files are loaded once. A run keeps copies of them (`save_copies`), which are used when the originals are gone
(`use_copies`). A copy is code, and may come from a stranger with a model: it is run only if this user has run the same
file before, or with MIG_JAX_TRUST_PARTS=1.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import shutil
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from mig_jax.errors import UserError

T = TypeVar("T")

# Folder of the copies, in the workdir of a run and in the folder of its model.
FOLDER = "parts"
# Its table: absolute path of each original -> {"copy": file name, "sha256": …}.
INDEX = "parts.json"

_FILE_PART = re.compile(r"[^=].*\.py:[A-Za-z_][\w.]*")
_MODULE_PART = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

# Folders of installed packages and of the standard library.
_LIBRARIES = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))

_lock = threading.RLock()
_modules: dict[Path, ModuleType] = {}
# Absolute path of an original -> its copy.
_copies: dict[Path, Path] = {}


def find_part(spec: str, table: Mapping[str, T], *, key: str) -> T:
    """Return the part that a value of the config names.

    Args:
      spec: a name of the table, or `package.module:NAME`, or `path/file.py:NAME`.
      table: our parts of this kind, by name.
      key: the key of the config, for messages.

    Raises:
      UserError: there is no such part, or the user's file or module cannot be loaded.
    """
    if spec in table:
        return table[spec]
    if not is_own(spec):
        raise UserError(_unknown_name(spec, table, key))
    source, _, name = spec.rpartition(":")
    found: Any = _load_file(spec, key) if part_file(spec) else _load_module(spec, key)
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            names = [other for other in vars(found) if not other.startswith("_")] if hasattr(found, "__dict__") else []
            raise UserError(f"{key}={spec!r}: {source} has no {name!r}{_did_you_mean(name, names)}")
        found = getattr(found, attribute)
    return found


def is_own(spec: str) -> bool:
    """Return whether a value has the form of a user's own part: `package.module:NAME` or `path/file.py:NAME`."""
    return bool(_FILE_PART.fullmatch(spec) or _MODULE_PART.fullmatch(spec))


def part_file(spec: str) -> Path | None:
    """Return the absolute path of the file that a part is in; None for parts of tables and of modules."""
    spec = spec.removeprefix("=")  # a constant column
    if not _FILE_PART.fullmatch(spec):
        return None
    return Path(os.path.abspath(os.path.expanduser(spec.rpartition(":")[0])))


def part_name(spec: str) -> str:
    """Return the short name of a part, for metrics and messages: `length` for `rewards/mine.py:length`."""
    return spec.rpartition(":")[2] if is_own(spec) else spec


def part_label(spec: str) -> str:
    """Return a part without the folder of its file, for pages that others read: `mine.py:length`."""
    file = part_file(spec)
    return f"{file.name}:{part_name(spec)}" if file else spec


def absolute_spec(spec: str) -> str:
    """Return a part of a file with the file's absolute path, found from any folder; other parts as they are.

    "=" before it, the mark of a constant in `data.columns`, stays.
    """
    if spec.startswith("="):
        return f"={absolute_spec(spec[1:])}"
    file = part_file(spec)
    return f"{'=' * spec.startswith('=')}{file}:{spec.rpartition(':')[2]}" if file else spec


def loadable_spec(spec: str) -> str:
    """Return the part as another process can load it: from the copy of its file, if the file is gone."""
    file = part_file(spec)
    if file is None or file.is_file() or file not in _copies:
        return spec
    return f"{_copies[file]}:{spec.rpartition(':')[2]}"


def own_constant(entry: str) -> str:
    """Return the user's own part that a constant column names, as in "=my_kinds.py:WORDS"; "" if it names none."""
    return entry[1:] if entry.startswith("=") and is_own(entry[1:]) else ""


def row_part_error(field: str, spec: str) -> str:
    """Return why a row may not name a part of the user's own: data would run code.

    Args:
      field: of the row.
      spec: what it names.
    """
    return (
        f"{field} is {spec!r}: rows cannot name code of your own; if you trust it, name it for all rows in the config: "
        f"data.columns.{field}='={spec}'"
    )


def signature_error(part: Any, *args: str, **kwargs: Any) -> str | None:
    """Return why a part cannot be called with these arguments, or None.

    Args:
      part: anything; it must be callable.
      *args: names of the positional arguments, for the message.
      **kwargs: the keyword arguments; their values do not matter.
    """
    expected = ", ".join([*args, *(f"{name}=…" for name in kwargs)])
    if not callable(part):
        return f"must be a function of ({expected}), not a {type(part).__name__}"
    try:
        inspect.signature(part).bind(*args, **kwargs)
    except TypeError as error:
        return f"must take ({expected}), but takes {inspect.signature(part)}: {error}"
    except ValueError:
        return None  # written in C, without a signature
    return None


def user_traceback(error: BaseException) -> str:
    """Return "file:line: Type: message" of the last line of the user's that failed."""
    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep
    message = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}: SyntaxError: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((ours, "<"))]
    # A library that the user calls may have raised it.
    frames = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}: {message}" if frames else message


# ------------------------------------------------------------------------------------------------------------- copies


def files_of(config: Any) -> list[Path]:
    """Return the absolute paths of all files whose parts a config names, in its values and in keys of its dicts."""
    return list(dict.fromkeys(file for text in _texts(config) if (file := part_file(text.removeprefix("=")))))


def save_copies(config: Any, folder: str | os.PathLike[str]) -> None:
    """Copy the files whose parts a config names into a folder, with a table of where they are from.

    An older copy of the same file is replaced. Nothing is written if there are no such files.
    """
    files, folder = files_of(config), Path(folder)
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    index = _read_index(folder)
    for file in files:
        original = file if file.is_file() else _copies.get(file)
        if original is None:
            continue
        taken = {entry["copy"] for path, entry in index.items() if path != str(file)}
        names = (f"{file.stem}{f'_{n}' if n else ''}.py" for n in range(len(taken) + 1))
        copy = index.get(str(file), {}).get("copy") or next(name for name in names if name not in taken)
        if original != folder / copy:
            shutil.copyfile(original, folder / copy)
        if original == file:
            _trust(folder / copy)
        index[str(file)] = {"copy": copy, "sha256": _digest(folder / copy)}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def use_copies(folder: str | os.PathLike[str]) -> list[str]:
    """Use the copies of a folder for files that are gone; return a warning for each file that has changed since.

    A folder that does not exist is left aside. Files that are there are used as they are now, changed or not.
    """
    folder, warnings = Path(folder), []
    for path, entry in _read_index(folder).items():
        original, copy = Path(path), folder / entry["copy"]
        if not original.is_file() and copy.is_file():
            _copies.setdefault(original, copy)
        elif original.is_file() and _digest(original) != entry["sha256"]:
            warnings.append(f"{original} has changed since; the copy that was used before is {copy}")
    return warnings


def check_stored(config: Any, path: str | os.PathLike[str]) -> None:
    """Check that a stored config, perhaps a stranger's, names no code that comes with it.

    Runs store absolute paths. A relative one, or one inside the folder of the config, names a file that this user may
    never have seen.

    Args:
      config: nested; it was read from `path`.
      path: of the file.

    Raises:
      UserError: it does, and this user has not run the same file before.
    """
    folder = Path(path).resolve().parent
    for text in _texts(config):
        file = part_file(text)
        if file is None or not file.is_file() or _is_trusted(file):
            continue
        is_absolute = os.path.isabs(text.removeprefix("="))
        if not is_absolute or file.resolve().is_relative_to(folder):
            raise UserError(
                f"{path} names code that comes with it and was never run here, {file}. Read it; then set "
                "MIG_JAX_TRUST_PARTS=1"
            )


def _trusted_file() -> Path:
    """Return the list of the files that this user has run: a SHA-256 in each line."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "mig_jax" / "parts.txt"


def _trust(copy: Path) -> None:
    if _is_trusted(copy):
        return
    with contextlib.suppress(OSError):  # no home folder, or a read-only one
        _trusted_file().parent.mkdir(parents=True, exist_ok=True)
        with open(_trusted_file(), "a", encoding="ascii") as file:
            file.write(f"{_digest(copy)}\n")


def _is_trusted(copy: Path) -> bool:
    if os.environ.get("MIG_JAX_TRUST_PARTS") == "1":
        return True
    try:
        return _digest(copy) in _trusted_file().read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return False


def _read_index(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / INDEX
    if not file.is_file():
        return {}
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(path): {"copy": str(entry["copy"]), "sha256": str(entry["sha256"])} for path, entry in index.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of a nested config: values, and keys, which name parts where they have weights."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif hasattr(value, "items"):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)


# ------------------------------------------------------------------------------------------------------------ loading


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles a file anew: compiled files beside it, perhaps a stranger's, are neither read nor written."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(spec: str, key: str) -> ModuleType:
    file = part_file(spec)
    assert file is not None
    with _lock:
        if file in _modules:
            return _modules[file]
        source = file
        if not file.is_file():
            if file not in _copies:
                raise UserError(f"{key}={spec!r}: no such file: {file}; restore it, or give its new place to {key}")
            source = _copies[file]
            if not _is_trusted(source):
                raise UserError(
                    f"{key}={spec!r}: {file} is gone, and its copy {source} is code that was never run here. Read it; "
                    f"then set MIG_JAX_TRUST_PARTS=1, or give {source}:{spec.rpartition(':')[2]} to {key}"
                )
            print(f"{file} is gone; {key} uses the run's copy {source}", file=sys.stderr)
        # A name of its own, so that dataclasses and pickles of the file find their module.
        name = f"mig_jax_part_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        loader = _SourceLoader(name, str(source))
        module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=str(source)))
        module.__file__ = str(source)
        sys.modules[name] = module
        try:
            _import(lambda: loader.exec_module(module), f"{key}={spec!r}", folder=file.parent)
        except BaseException:
            del sys.modules[name]
            raise
        _modules[file] = module
        return module


def _load_module(spec: str, key: str) -> ModuleType:
    name = spec.rpartition(":")[0]
    hint = ""
    if os.path.isfile(name.replace(".", os.sep) + ".py"):
        hint = f"; for the file here, give {name.replace('.', '/')}.py:{spec.rpartition(':')[2]}"
    try:
        missing = importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        missing = True
    if missing:
        raise UserError(f"{key}={spec!r}: no module {name!r} can be imported; install its package{hint}")
    return _import(lambda: importlib.import_module(name), f"{key}={spec!r}")


def _import(load: Callable[[], Any], what: str, *, folder: Path | None = None) -> Any:
    """Call `load`, which runs code of the user, and name the line of it that fails."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and folder and error.name and (folder / f"{error.name}.py").is_file():
            hint = f"; a file stands alone: put {error.name}.py into it, or both into a package: package.module:NAME"
        raise UserError(f"{what} cannot be loaded: {user_traceback(error)}{hint}") from error


def _unknown_name(spec: str, table: Mapping[str, Any], key: str) -> str:
    own = "path/file.py:NAME or package.module:NAME for your own"
    if spec.endswith(".py"):
        return f"{key}={spec!r}: name what to use of the file, as {spec}:NAME"
    return f"{key}={spec!r}: choose one of {', '.join(table)}{_did_you_mean(spec, table)}; or give {own}"


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
