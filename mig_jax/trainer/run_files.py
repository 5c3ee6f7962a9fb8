"""Read what a training run has written to its workdir."""

import base64
import dataclasses
import functools
import html
import os
from typing import TYPE_CHECKING, Any

from mig_jax.errors import UserError
from mig_jax.parts import own_constant
from mig_jax.records import metrics
from mig_jax.records.transcript_list import TranscriptList
from mig_jax.records.transcripts import read_transcripts
from mig_jax.trainer.report import accuracy_line

if TYPE_CHECKING:
    from mig_jax.records.plot_style import InlineFigure


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run, finished or not: its metrics, curves, responses and model, read from the workdir when needed.

    A notebook shows it as its accuracy and its curves. Files are read once; make another `Run` to see new ones.

    workdir: folder of the run.
    """

    workdir: str

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The config of the run, as nested dicts."""
        return self._metrics_file[0]

    @functools.cached_property
    def metrics(self) -> list[dict[str, float]]:
        """The logged rows, in order: `step` and the metrics by name; docs/metrics.md explains them."""
        return self._metrics_file[1]

    @property
    def accuracy(self) -> str:
        """How the accuracy on held-out problems changed, in a line."""
        return accuracy_line(self.workdir)

    @property
    def model(self) -> str:
        """Folder of the trained model, in Hugging Face format.

        Raises:
          UserError: the run has not ended, so there is none.
        """
        folder = os.path.join(self.workdir, "model")
        # config.json is written last: if it exists, the model is complete.
        if not any(os.path.exists(os.path.join(folder, name)) for name in ("config.json", "adapter_config.json")):
            raise UserError(
                f"{self.workdir} has no model yet: train with the same config and workdir to finish the run"
            )
        return folder

    @functools.cached_property
    def transcripts(self) -> TranscriptList:
        """The last logged responses of the training, with grades and gains."""
        folder = os.path.join(self.workdir, "transcripts")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        files = [name for name in names if name.endswith(".jsonl")]
        own_kind = own_constant(self.config["data"]["columns"]["kind"])
        return TranscriptList(read_transcripts(os.path.join(folder, files[-1]), own_kind=own_kind) if files else ())

    def curves(self) -> "InlineFigure":
        """Draw the training curves."""
        from mig_jax.records import plots  # which loads matplotlib

        return plots.training_curves({"": self.metrics})

    @functools.cached_property
    def _metrics_file(self) -> tuple[dict[str, Any], list[dict[str, float]]]:
        return metrics.read_metrics(self.workdir)

    def _repr_html_(self) -> str:
        png = base64.b64encode(self.curves()._repr_png_()).decode()
        texts = (html.escape(text) for text in (self.workdir, self.accuracy))
        return f'<p>{"<br>".join(texts)}</p>\n<img alt="training curves" src="data:image/png;base64,{png}">\n'
