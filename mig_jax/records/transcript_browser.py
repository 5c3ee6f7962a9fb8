"""A page to browse graded responses: a card per problem, with filters and a search field.

Everything is readable without JavaScript; the script only hides what the filters exclude.
"""

import html
from collections import defaultdict
from collections.abc import Sequence

from mig_jax.records import format_shares
from mig_jax.records.browser_assets import SCRIPT, STYLE
from mig_jax.records.eval_metrics import natural_order
from mig_jax.records.html_page import (
    VERDICTS,
    ColorScale,
    color_scale,
    image_figure,
    legend,
    response_rows,
    write_page,
)
from mig_jax.records.read_answers import lenient_answer, strict_answer
from mig_jax.records.svg_chart import likelihood_chart
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import choices_by_letter

SIGNS = {True: "✓", False: "✗", None: "?"}
# Headings of the table of counts; the last two are the kinds of `format_shares`.
COUNTS = ("", "responses", "strict", "lenient", "cut off", "malformed")
# Characters of an answer in the summary line of its response.
ANSWER_CHARACTERS = 200


def write_transcript_browser(transcripts: Sequence[Transcript], path: str, *, title: str) -> None:
    """Write a page of all responses, grouped by problem: greedy responses first, then the samples in a closed group.

    Each response has a summary line with both verdicts, its answer and its format error. It opens to the whole
    response, with steps colored by gain if it was scored.

    Args:
      transcripts: any number, in any order; problems are in order of first occurrence.
      path: of the HTML file.
      title: of the page.
    """
    scale = color_scale(transcripts)
    problems = defaultdict(list)
    for transcript in transcripts:
        problems[_problem_key(transcript)].append(transcript)
    parts = [
        f"<header>\n<h1>{html.escape(title)}</h1>\n{_counts(transcripts, len(problems))}",
        legend(scale) if any(transcript.gain_k for transcript in transcripts) else "",
        f"</header>\n{_form(transcripts)}",
        *(_card(responses, scale) for responses in problems.values()),
        f"<script>{SCRIPT}</script>\n",
    ]
    write_page(parts, path, title=title, style=STYLE)


def _problem_key(t: Transcript) -> tuple:
    """Return what all responses to a problem have in common; it identifies problems without an id, too."""
    return t.source, t.id, t.history, t.question, t.choices, t.answer, t.images


# --------------------------------------------------------------------------------------------------------------- head


def _counts(transcripts: Sequence[Transcript], n_problems: int) -> str:
    """Return the numbers of problems and responses, a table of verdicts by sampling method, and warnings."""
    by_sampling = defaultdict(list)
    for transcript in transcripts:
        by_sampling[transcript.sampling].append(transcript)
    shares = {
        kind: {sampling: format_shares.share(group, kind) for sampling, group in by_sampling.items()}
        for kind in format_shares.KINDS
    }
    rows = []
    for sampling, group in by_sampling.items():
        tallies = [_tally([t.is_correct_strict for t in group]), _tally([t.is_correct_lenient for t in group])]
        percent = [f"{100 * by_kind[sampling]:.1f} %" for by_kind in shares.values()]
        cells = [html.escape(sampling or "(none)"), f"{len(group):,}", *tallies, *percent]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    warnings = format_shares.find_warnings(shares, of="these problems")
    return (
        f"<p>{_plural(n_problems, 'problem')}, {_plural(len(transcripts), 'response')}. strict: the response is well "
        "formed and the answer in its answer block is right; lenient: the answer is right, wherever it is; "
        "?: undecided (not graded, or grading timed out).</p>\n"
        f"<table>\n<thead><tr>{''.join(f'<th>{heading}</th>' for heading in COUNTS)}</tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody>\n</table>\n"
        + "".join(f'<p class="malformed">Warning: {html.escape(warning)}</p>\n' for warning in warnings)
    )


def _tally(verdicts: Sequence[bool | None]) -> str:
    """Return how many responses are right, wrong and, if there are any, undecided."""
    return " ".join(
        f'<span class="{VERDICTS[verdict][0]}">{sign} {verdicts.count(verdict):,}</span>'
        for verdict, sign in SIGNS.items()
        if verdict is not None or None in verdicts
    )


def _form(transcripts: Sequence[Transcript]) -> str:
    """Return the filters that have more than one option; the script shows the form."""
    options = {
        "strict": ("right", "wrong", "undecided"),
        "lenient": ("right", "wrong", "undecided"),
        "format": ("well formed", "malformed"),
        "steps": natural_order(_is_scored(t) for t in transcripts),
        "sampling": natural_order(t.sampling for t in transcripts),
        "source": natural_order(t.source for t in transcripts),
        "level": natural_order(t.level for t in transcripts),
        "subject": natural_order(t.subject for t in transcripts),
    }
    selects = [_select(name, values) for name, values in options.items() if len(values) > 1]
    return (
        f'<form hidden autocomplete="off">\n{"".join(selects)}'
        '<label class="search">search<input type="search" placeholder="text of a question or response"></label>\n'
        '<output></output>\n<button type="reset">reset</button>\n</form>\n'
    )


def _select(name: str, values: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{html.escape(value)}">{html.escape(value or "(none)")}</option>' for value in values
    )
    return f'<label>{name}<select name="{name}"><option>any</option>{options}</select></label>\n'


# ----------------------------------------------------------------------------------------------------------- problems


def _card(responses: Sequence[Transcript], scale: ColorScale) -> str:
    """Return a problem and its responses; two or more that are not greedy are in a closed group."""
    first = responses[0]
    samples = [transcript for transcript in responses if transcript.sampling != "greedy"]
    shown = [transcript for transcript in responses if transcript.sampling == "greedy"]
    if len(samples) < 2:
        shown, samples = [*shown, *samples], []
    return (
        f"<article {_data(source=first.source, level=first.level, subject=first.subject)}>\n{_question(first)}"
        f"{''.join(_response(t.sampling or 'response', t, scale) for t in shown)}{_samples(samples, scale)}</article>\n"
    )


def _question(transcript: Transcript) -> str:
    facts = [transcript.source, transcript.level, transcript.subject, f"reference answer {transcript.answer}"]
    spans = [f"<span>{html.escape(fact)}</span>" for fact in facts if fact]
    if transcript.id:
        spans.append(f'<span class="id">{html.escape(transcript.id)}</span>')
    reference = ' class="reference"'
    choices = "".join(
        f"<li{reference if letter == transcript.answer else ''}><b>{letter}</b> {html.escape(choice)}</li>"
        for letter, choice in choices_by_letter(transcript.choices).items()
    )
    turns = "".join(f"<p><b>{html.escape(role)}</b> {html.escape(text)}</p>\n" for role, text in transcript.history)
    return (
        f'<div class="question">\n<div>{turns}<h2>{html.escape(transcript.question)}</h2>\n'
        + (f'<ol class="choices">{choices}</ol>\n' if choices else "")
        + f'<div class="facts">{"".join(spans)}</div></div>\n{image_figure(transcript.images)}</div>\n'
    )


def _samples(responses: Sequence[Transcript], scale: ColorScale) -> str:
    """Return the samples of a problem in a closed group, whose summary line shows how many are right, and which."""
    if not responses:
        return ""
    strict, lenient = [t.is_correct_strict for t in responses], [t.is_correct_lenient for t in responses]
    strip = "".join(f'<span class="{VERDICTS[verdict][0]}">{SIGNS[verdict]}</span>' for verdict in strict)
    return (
        f'<details class="samples">\n<summary><span class="side">{_plural(len(responses), "sample")}</span>'
        f"<span>strict {strict.count(True)} right</span><span>lenient {lenient.count(True)} right</span>"
        f'<span class="strip" title="strict" aria-hidden="true">{strip}</span></summary>\n'
        f"{''.join(_response(f'sample {n}', t, scale) for n, t in enumerate(responses, 1))}</details>\n"
    )


def _response(name: str, transcript: Transcript, scale: ColorScale) -> str:
    """Return a summary line that opens to the whole response."""
    verdicts = {"strict": transcript.is_correct_strict, "lenient": transcript.is_correct_lenient}
    classes = {criterion: VERDICTS[verdict][0] for criterion, verdict in verdicts.items()}
    data = _data(
        **classes,
        format="malformed" if transcript.format_error else "well formed",
        steps=_is_scored(transcript),
        sampling=transcript.sampling,
    )
    marks = "".join(
        f'<span class="verdict {classes[name]}" title="{name}: {classes[name]}">{SIGNS[verdict]} {name}</span>'
        for name, verdict in verdicts.items()
    )
    total = f"<span>Σ gain {sum(transcript.gain_k):+.2f}</span>" if transcript.gain_k else ""
    error = f'<span class="malformed">{html.escape(transcript.format_error)}</span>' if transcript.format_error else ""
    return (
        f'<details {data}>\n<summary><span class="side">{html.escape(name)}</span>'
        f"{marks}{_answer(transcript)}{total}{error}</summary>\n{_whole_response(transcript, scale)}</details>\n"
    )


def _is_scored(transcript: Transcript) -> str:
    return "scored" if transcript.ell_k else "not scored"


def _answer(transcript: Transcript) -> str:
    """Return the answer of the answer block, or else the one that is read leniently."""
    block = strict_answer(transcript)
    answer = block or lenient_answer(transcript)
    if not answer:
        return '<span class="given no-answer">no answer</span>'
    tooltip = "" if block else ' title="not in an answer block"'
    return f'<span class="given"{tooltip}>{html.escape(answer[:ANSWER_CHARACTERS])}</span>'


def _whole_response(transcript: Transcript, scale: ColorScale) -> str:
    """Return the response, with its steps' numbers and chart if it was scored."""
    if not transcript.ell_k:
        return f'<div class="response text">{html.escape(transcript.response)}</div>\n'
    return (
        f'<div class="response body"><div>{response_rows(transcript, scale)}</div>\n'
        f"<div>{likelihood_chart(transcript.ell_k, transcript.watermark_k)}</div></div>\n"
    )


def _data(**values: str) -> str:
    """Return the data attributes that the filters compare."""
    return " ".join(f'data-{name}="{html.escape(value)}"' for name, value in values.items())


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
