"""A page, or a part of one, with the gain of each step of responses; `gains_plot` draws the same as PNG."""

import html
from collections.abc import Sequence

from mig_jax.records.html_page import (
    STYLE,
    VERDICTS,
    ColorScale,
    color_scale,
    fragment,
    image_figure,
    legend,
    response_rows,
    write_page,
)
from mig_jax.records.svg_chart import format_number, likelihood_chart
from mig_jax.records.transcripts import Transcript

TITLE = "Gain of each step"


def write_gains_page(transcripts: Sequence[Transcript], path: str) -> None:
    """Write a page of responses whose steps are colored by their gain, all on one color scale.

    Each step has its gain gₖ and ℓₖ, and each response a chart of ℓ and the watermark; images are to the left of the
    steps. Responses without steps or scores are shown without them.

    Args:
      transcripts: any number.
      path: of the HTML file.
    """
    scale = color_scale(transcripts)
    articles = (_article(transcript, scale) for transcript in transcripts)
    write_page([_header(transcripts, scale), *articles], path, title=TITLE, style=STYLE)


def gains_fragment(transcripts: Sequence[Transcript]) -> str:
    """Return the same as HTML to insert into another page: a notebook shows it below a cell."""
    scale = color_scale(transcripts)
    return fragment([legend(scale), *(_article(transcript, scale) for transcript in transcripts)])


def _header(transcripts: Sequence[Transcript], scale: ColorScale) -> str:
    verdicts = [transcript.is_correct for transcript in transcripts]
    counts = [f"{verdicts.count(verdict)} {name}" for verdict, (name, _) in VERDICTS.items()]
    return (
        f"<header>\n<h1>{TITLE}</h1>\n"
        "<p>ℓ is the log-likelihood of the reference answer per token. The gain g of a step is the amount by which it "
        "raises ℓ above its best value after any earlier step (the watermark). All values are in nats.</p>\n"
        f"<p>Responses: {len(verdicts)} ({', '.join(counts)})</p>\n{legend(scale)}</header>\n"
    )


def _article(transcript: Transcript, scale: ColorScale) -> str:
    css_class, verdict = VERDICTS[transcript.is_correct]
    facts = [
        f'<span class="{css_class}">{verdict}</span>',
        f"<span>reference answer {html.escape(transcript.answer)}</span>",
    ]
    if transcript.gain_k:
        facts.append(f"<span>Σ gain {format_number(sum(transcript.gain_k))}</span>")
    if transcript.format_error:
        facts.append(f"<span>malformed: {html.escape(transcript.format_error)}</span>")
    images = image_figure(transcript.images)
    return (
        f"<article>\n<h2>{html.escape(transcript.question)}</h2>\n"
        f'<div class="facts">{"".join(facts)}</div>\n<div class="body{" with-images" if images else ""}">\n'
        f"{images}<div>{response_rows(transcript, scale)}</div>\n"
        f"<div>{likelihood_chart(transcript.ell_k, transcript.watermark_k)}</div>\n</div>\n</article>\n"
    )
