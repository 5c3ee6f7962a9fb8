"""A list of transcripts that a notebook shows: the steps of each, tinted by their gain."""

from typing import SupportsIndex, overload

from mig_jax.records import gains_html, gains_plot
from mig_jax.records.plot_style import InlineFigure
from mig_jax.records.transcripts import Transcript


class TranscriptList(list[Transcript]):
    """A list of transcripts; as the value of a notebook's cell it is shown as HTML, on one color scale."""

    def figure(self, n: int = 8) -> InlineFigure:
        """Draw the first `n` responses: their steps with gains, and ℓ with its watermark."""
        return gains_plot.gains_figure(self[:n])

    def _repr_html_(self) -> str:
        return gains_html.gains_fragment(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Transcript: ...
    @overload
    def __getitem__(self, index: slice) -> "TranscriptList": ...
    def __getitem__(self, index):
        """Return a transcript, or a part of the list that notebooks show in the same way."""
        chosen = super().__getitem__(index)
        return TranscriptList(chosen) if isinstance(index, slice) else chosen
