"""A list of transcripts that a notebook shows: the steps of each, tinted by their gain."""

from typing import SupportsIndex, overload

from mig_jax.records import gains_html, gains_plot
from mig_jax.records.plot_style import InlineFigure
from mig_jax.records.transcripts import Transcript


class TranscriptList(list[Transcript]):
    """A list of transcripts; as the value of a notebook's cell it is shown as HTML, on one color scale."""

    def summary(self) -> str:
        """Return one line: how many are right, malformed and undecided, and what their steps gain on average."""
        texts = [
            f"{len(self):,} transcript{'s' * (len(self) != 1)}",
            f"{sum(t.is_correct_strict is True for t in self):,} right",
        ]
        for name, count in (
            ("malformed", sum(bool(t.format_error) for t in self)),
            ("undecided", sum(t.is_correct is None for t in self)),
        ):
            if count:
                texts.append(f"{count:,} {name}")
        rewards = [sum(t.gain_k) for t in self if t.ell_k]
        if rewards:
            n_steps = sum(len(t.gain_k) for t in self)
            steps = " that gains" if n_steps == 1 else "s that gain"
            texts.append(f"{n_steps:,} step{steps} {sum(rewards) / len(rewards):.3g} nats a response")
        return ", ".join(texts)

    def __repr__(self) -> str:
        return f"<{self.summary()}>"

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
