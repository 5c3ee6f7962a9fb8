"""Where the metrics of a run are written besides `metrics.jsonl`: TensorBoard, wandb, or a user's own writer.

`log.writers` names them. A writer is opened as `open(workdir, config, resume_step)` and has a method
`write(step, row)`, and `close()` if it has something to close:

    class Csv:
        def __init__(self, workdir, config, resume_step):
            self.file = open(f"{workdir}/metrics.csv", "a")

        def write(self, step, row):
            print(step, row.get("reward/accuracy"), sep=",", file=self.file)

        def close(self):
            self.file.close()
"""

import importlib.util
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from absl import logging
from tensorboardX.event_file_writer import EventsWriter

# Generated code, in which a type checker finds no names.
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from mig_jax.errors import UserError
from mig_jax.parts import find_part, signature_error, user_traceback

# Rows that may wait for a slow writer, and seconds that the end of a run waits for one.
MAX_WAITING = 1000
CLOSE_S = 30.0


class Writer(Protocol):
    """An open output of metrics."""

    def write(self, step: int, row: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoardWriter:
    """Writes points to a new event file, whose first event purges those of later steps in other files.

    Not a SummaryWriter: that writes from a thread, which ends without an error when the disk is full.
    """

    def __init__(self, workdir: str, config: Mapping[str, Any], resume_step: int | None):
        del config
        folder, first_step = os.path.join(workdir, "tensorboard"), resume_step or 0
        os.makedirs(folder, exist_ok=True)
        # The suffix distinguishes two files opened within one second.
        self._events = EventsWriter(os.path.join(folder, "events"), f".from_{first_step}")
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(wall_time=time.time(), step=first_step, session_log=start))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Write a point for each metric."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self._events.flush()

    def close(self) -> None:
        """Close the file."""
        self._events.close()


class WandbWriter:
    """Logs to a run of Weights & Biases, the same one when a run is resumed. WANDB_MODE=offline needs no network."""

    def __init__(self, workdir: str, config: Mapping[str, Any], resume_step: int | None):
        import wandb  # pyright: ignore[reportMissingImports] - an optional package

        del resume_step  # wandb drops rows of steps that it has already
        file = Path(workdir) / "wandb_id"
        if not file.exists():
            file.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run = wandb.init(
            project=config["log"]["wandb_project"],
            name=os.path.basename(os.path.abspath(workdir)),
            dir=workdir,
            id=file.read_text(encoding="utf-8"),
            config=dict(config),
            resume="allow",
        )

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Log a row."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


# (workdir, config, resume_step) → the open writer; by the name that configs use.
WRITERS: dict[str, Callable[[str, Mapping[str, Any], int | None], Writer]] = {
    "tensorboard": TensorBoardWriter,
    "wandb": WandbWriter,
}
PACKAGES = {"wandb": "wandb"}


class BackgroundWriter:
    """A writer of a network or of the user, in a thread of its own: the run neither waits for it nor ends with it.

    The first error is logged, and ends this writer alone.

    Args:
      name: as in `log.writers`.
      writer: open; with `write(step, row)`, and perhaps `close()`.
    """

    def __init__(self, name: str, writer: Any):
        self._name, self._writer, self._is_behind = name, writer, False
        self._rows: queue.Queue[tuple[int, Mapping[str, float]] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Pass a row on; it is dropped if too many wait already."""
        try:
            self._rows.put_nowait((step, dict(row)))
        except queue.Full:
            if not self._is_behind:
                logging.warning("log.writers: %s is too slow; rows from step %d on are dropped", self._name, step)
            self._is_behind = True

    def close(self) -> None:
        """Wait for the rows that are left, for at most `CLOSE_S` seconds."""
        try:
            self._rows.put(None, timeout=CLOSE_S)
        except queue.Full:
            pass
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logging.warning("log.writers: %s does not end; its last rows may be missing", self._name)

    def _run(self) -> None:
        is_broken = False
        while item := self._rows.get():
            is_broken = is_broken or not self._try(lambda item=item: self._writer.write(*item))
        if hasattr(self._writer, "close"):
            self._try(self._writer.close)

    def _try(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        except Exception as error:
            place = user_traceback(error)
            logging.warning("log.writers: %s failed and gets no further rows: %s", self._name, place, exc_info=error)
            return False
        return True


def open_writers(
    names: tuple[str, ...], workdir: str, config: Mapping[str, Any], resume_step: int | None
) -> list[Writer]:
    """Open the writers of a run.

    Args:
      names: keys of `WRITERS`, or a user's own, see `parts.find_part`.
      workdir: folder of the run.
      config: nested dicts.
      resume_step: first step still to be run when a run is resumed; None for a new one.

    Raises:
      UserError: a writer cannot be opened.
    """
    opened: list[Writer] = []
    for name in names:
        try:
            writer = find_part(name, WRITERS, key="log.writers")(workdir, config, resume_step)
            if not callable(getattr(writer, "write", None)):
                raise UserError(f"gives a {type(writer).__name__} without a method write(step, row)")
        except OSError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else user_traceback(error)
            raise UserError(f"log.writers={name!r} cannot be opened: {reason}") from error
        opened.append(writer if name == "tensorboard" else BackgroundWriter(name, writer))
    return opened


def writer_error(writer: Any) -> str | None:
    """Return why a user's writer cannot be opened with the arguments it gets, or None."""
    return signature_error(writer, "workdir", "config", "resume_step")


def missing_packages(names: tuple[str, ...]) -> list[str]:
    """Return messages about packages of writers that are not installed."""
    return [
        f"log.writers={name!r}: not installed. Run: pip install {PACKAGES[name]}"
        for name in names
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None
    ]
