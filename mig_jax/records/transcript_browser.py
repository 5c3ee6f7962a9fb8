"""Scored responses to browse: one HTML file that needs nothing from elsewhere, a card a problem, filters on top.

The page is whole without its script, which only hides what a filter leaves out.
"""

import html
from collections import defaultdict
from collections.abc import Sequence

from mig_jax.records import eval_metrics, gains_html
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import choices_by_letter, parse_response

SIGNS = {True: "✓", False: "✗", None: "?"}
# Of an answer on the line of its response; below it stands the whole.
ANSWER_CHARACTERS = 200

STYLE = (
    gains_html.STYLE
    + """
[hidden] { display: none !important; }
form { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: end; gap: .5rem .7rem;
  margin: 1.2rem 0 0; padding: .7rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
label { display: flex; flex-direction: column; gap: .1rem; font-size: .75rem; color: var(--muted); min-width: 0; }
label.search { flex: 1 1 14rem; }
select, input, button { font: inherit; font-size: .9rem; color: var(--ink); background: var(--card); min-width: 0;
  max-width: 15rem; border: 1px solid var(--line); border-radius: 6px; padding: .3rem .5rem; }
input { max-width: none; width: 100%; } button { cursor: pointer; }
select.set, input:not(:placeholder-shown) { border-color: var(--ell); box-shadow: inset 0 0 0 1px var(--ell); }
:focus-visible { outline: 2px solid var(--ell); outline-offset: 1px; }
output { font-size: .85rem; color: var(--muted); font-variant-numeric: tabular-nums; padding: .35rem 0; }
table { border-collapse: collapse; margin-top: 1rem; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { font-weight: 400; } th, td:first-child { color: var(--muted); }
th, td { padding: .2rem 0 .2rem 1.4rem; text-align: right; white-space: nowrap; } td span { margin-left: .4rem; }
th:first-child, td:first-child { padding-left: 0; text-align: left; } tbody tr { border-top: 1px solid var(--line); }
article { content-visibility: auto; contain-intrinsic-size: auto 14rem; padding-bottom: .5rem; }
.question { display: flex; gap: .4rem 1.4rem; padding-bottom: .6rem; }
.question > div { flex: 1; min-width: 0; } .question h2 { font-weight: 500; } .question .facts { margin-bottom: 0; }
.question figure { max-width: 400px; justify-content: end; }
.question img { cursor: zoom-in; } .question img:focus { width: auto; cursor: default; }
.question:has(img:focus) { flex-direction: column; }
.question:has(img:focus) figure { max-width: none; justify-content: start; }
.choices { list-style: none; margin: .4rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; }
.choices li { overflow-wrap: anywhere; } .choices b { color: var(--muted); font-weight: 600; }
.choices .reference, .choices .reference b { color: var(--right); }
.id { font-family: ui-monospace, monospace; font-size: .8rem; }
details { border-top: 1px solid var(--line); }
summary { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem 1rem; padding: .45rem 0; cursor: pointer;
  list-style: none; font-size: .9rem; }
summary::-webkit-details-marker { display: none; }
summary::before { content: "▸"; color: var(--muted); width: .6rem; } [open] > summary::before { content: "▾"; }
summary:hover { background: color-mix(in srgb, var(--line) 35%, transparent); }
.side { width: 4.6rem; color: var(--muted); white-space: nowrap; } .verdict { width: 4.8rem; }
.given { flex: 1 1 9rem; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  unicode-bidi: isolate; }
.no-answer { color: var(--muted); font-style: italic; }
.malformed { color: var(--mark); font-size: .85rem; overflow-wrap: anywhere; }
.undecided { color: var(--muted); }
.strip { letter-spacing: .15em; overflow-wrap: anywhere; }
.samples > details { margin-left: 1rem; }
.response { padding: .2rem 0 .9rem 1.6rem; }
@media (max-width: 700px) {
  form { position: static; } label { flex: 1 1 40%; } select { max-width: none; }
  main { padding: 1rem .6rem 3rem; } article { padding: .8rem .9rem; }
  .question { flex-direction: column; } .question figure { justify-content: start; }
  .samples > details { margin-left: .4rem; } .response { padding-left: 0; }
  .side, .verdict { width: auto; }
  .given { flex-basis: 3rem; }
  table { display: block; overflow-x: auto; font-size: .75rem; } th, td { padding-left: .3rem; }
  td span { margin-left: .1rem; }
}
"""
)

# Hides what the filters leave out. Every response is looked at once, its text only when something is searched for.
SCRIPT = """
const form = document.querySelector("form"), shown = form.querySelector("output");
const selects = [...form.querySelectorAll("select")], search = form.querySelector("input");
const cards = [...document.querySelectorAll("article")].map(card => ({
  card, group: card.querySelector(".samples"), head: card.querySelector(".question"),
  responses: [...card.querySelectorAll("details[data-strict]")]}));
const texts = new Map();
function text(element) {
  if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase());
  return texts.get(element);
}
const number = value => value.toLocaleString("en");
function filter() {
  const wanted = selects.filter(select => select.selectedIndex > 0).map(select => [select.name, select.value]);
  const sought = search.value.trim().toLowerCase();
  let problems = 0, count = 0, total = 0;
  for (const {card, group, head, responses} of cards) {
    const of_card = wanted.filter(([name]) => name in card.dataset);
    const of_response = wanted.filter(([name]) => !(name in card.dataset));
    const fits = of_card.every(([name, value]) => card.dataset[name] === value);
    const found = !sought || (fits && text(head).includes(sought));
    let left = 0, sampled = 0;
    for (const response of responses) {
      const fitting = fits && of_response.every(([name, value]) => response.dataset[name] === value)
        && (found || text(response).includes(sought));
      if (response.hidden === fitting) response.hidden = !fitting;
      if (fitting) { left++; if (response.parentElement === group) sampled++; }
    }
    if (group) { group.hidden = !sampled; group.open = sampled > 0 && (of_response.length > 0 || !found); }
    card.hidden = !left;
    problems += left > 0; count += left; total += responses.length;
  }
  for (const select of selects) select.classList.toggle("set", select.selectedIndex > 0);
  shown.textContent = `${number(problems)} of ${number(cards.length)} problems, `
    + `${number(count)} of ${number(total)} responses`;
}
let timer;
form.addEventListener("input", event => {
  clearTimeout(timer);
  timer = setTimeout(filter, event.target === search ? 150 : 0);
});
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
filter();
"""


def browse_page(transcripts: Sequence[Transcript], path: str, *, title: str) -> None:
    """Writes a page of all responses, those of a problem together: the greedy ones, then the others folded away.

    Each says whether it is right when it is read strictly and leniently, what its answer is, and why it is malformed;
    it opens onto the whole response, with its steps tinted by what they have earned where that is known. All text is
    shown as it is, whatever it holds.

    Args:
      transcripts: any number, in any order; problems stand in the order in which they are first met.
      path: of the HTML file.
      title: above the page.
    """
    scale = gains_html.scale_of(transcripts)
    problems = defaultdict(list)
    for transcript in transcripts:
        problems[_problem_of(transcript)].append(transcript)
    parts = [
        f"<header>\n<h1>{html.escape(title)}</h1>\n{_counts(transcripts, len(problems))}",
        gains_html.legend(scale) if any(transcript.gain_k for transcript in transcripts) else "",
        f"</header>\n{_form(transcripts)}",
        *(_card(responses, scale) for responses in problems.values()),
        f"<script>{SCRIPT}</script>\n",
    ]
    gains_html.write_page(parts, path, title=title, style=STYLE)


def _problem_of(t: Transcript) -> tuple:
    """What all responses to a problem have in common; without an id it is told by all that was asked."""
    return t.source, t.id, t.question, t.choices, t.answer, t.images


# --------------------------------------------------------------------------------------------------------------- head


def _counts(transcripts: Sequence[Transcript], n_problems: int) -> str:
    """How many there are, and a table of the verdicts."""
    sides = defaultdict(list)
    for transcript in transcripts:
        sides[transcript.sampling or "(none)"].append(transcript)
    rows = []
    for side, part in sides.items():
        tallies = [_tally([t.is_correct_strict for t in part]), _tally([t.is_correct_lenient for t in part])]
        cells = [html.escape(side), f"{len(part):,}", *tallies, f"{sum(bool(t.format_error) for t in part):,}"]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    return (
        f"<p>{_plural(n_problems, 'problem')}, {_plural(len(transcripts), 'response')}. strict: the answer block of a "
        "well-formed response is right; lenient: the answer is right wherever it stands; ?: not decided.</p>\n"
        "<table>\n<thead><tr><th></th><th>responses</th><th>strict</th><th>lenient</th><th>malformed</th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody>\n</table>\n"
    )


def _tally(verdicts: Sequence[bool | None]) -> str:
    """How many of each verdict there are; undecided ones are not mentioned where there are none."""
    return " ".join(
        f'<span class="{gains_html.VERDICTS[verdict][0]}">{sign} {verdicts.count(verdict):,}</span>'
        for verdict, sign in SIGNS.items()
        if verdict is not None or None in verdicts
    )


def _form(transcripts: Sequence[Transcript]) -> str:
    """The filters that have something to choose from; shown by the script."""
    offered = {
        "strict": ("right", "wrong", "undecided"),
        "lenient": ("right", "wrong", "undecided"),
        "format": ("well formed", "malformed"),
        "steps": eval_metrics.in_order(_scored(t) for t in transcripts),
        "sampling": eval_metrics.in_order(t.sampling for t in transcripts),
        "source": eval_metrics.in_order(t.source for t in transcripts),
        "level": eval_metrics.in_order(t.level for t in transcripts),
        "subject": eval_metrics.in_order(t.subject for t in transcripts),
    }
    selects = [_select(name, values) for name, values in offered.items() if len(values) > 1]
    return (
        f'<form hidden autocomplete="off">\n{"".join(selects)}'
        '<label class="search">search<input type="search" placeholder="words of a question or response"></label>\n'
        '<output></output>\n<button type="reset">reset</button>\n</form>\n'
    )


def _select(name: str, values: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{html.escape(value)}">{html.escape(value or "(none)")}</option>' for value in values
    )
    return f'<label>{name}<select name="{name}"><option>any</option>{options}</select></label>\n'


# ----------------------------------------------------------------------------------------------------------- problems


def _card(responses: Sequence[Transcript], scale: gains_html.Scale) -> str:
    """A problem and its responses; several that are not greedy are folded away."""
    first = responses[0]
    folded = [transcript for transcript in responses if transcript.sampling != "greedy"]
    plain = [transcript for transcript in responses if transcript.sampling == "greedy"]
    if len(folded) < 2:
        plain, folded = [*plain, *folded], []
    return (
        f"<article {_data(source=first.source, level=first.level, subject=first.subject)}>\n{_question(first)}"
        f"{''.join(_response(t.sampling or 'response', t, scale) for t in plain)}{_group(folded, scale)}</article>\n"
    )


def _question(transcript: Transcript) -> str:
    facts = [transcript.source, transcript.level, transcript.subject, f"reference {transcript.answer}"]
    shown = [f"<span>{html.escape(fact)}</span>" for fact in facts if fact]
    if transcript.id:
        shown.append(f'<span class="id">{html.escape(transcript.id)}</span>')
    marked = ' class="reference"'
    choices = "".join(
        f"<li{marked if letter == transcript.answer else ''}><b>{letter}</b> {html.escape(choice)}</li>"
        for letter, choice in choices_by_letter(transcript.choices).items()
    )
    return (
        f'<div class="question">\n<div><h2>{html.escape(transcript.question)}</h2>\n'
        + (f'<ol class="choices">{choices}</ol>\n' if choices else "")
        + f'<div class="facts">{"".join(shown)}</div></div>\n{gains_html.image_figure(transcript.images)}</div>\n'
    )


def _group(responses: Sequence[Transcript], scale: gains_html.Scale) -> str:
    """Samples of a problem, folded away under how many of them are right, and which."""
    if not responses:
        return ""
    strict, lenient = [t.is_correct_strict for t in responses], [t.is_correct_lenient for t in responses]
    strip = "".join(f'<span class="{gains_html.VERDICTS[verdict][0]}">{SIGNS[verdict]}</span>' for verdict in strict)
    return (
        f'<details class="samples">\n<summary><span class="side">{_plural(len(responses), "sample")}</span>'
        f"<span>strict {strict.count(True)} right</span><span>lenient {lenient.count(True)} right</span>"
        f'<span class="strip" title="strict" aria-hidden="true">{strip}</span></summary>\n'
        f"{''.join(_response(f'sample {n}', t, scale) for n, t in enumerate(responses, 1))}</details>\n"
    )


def _response(name: str, transcript: Transcript, scale: gains_html.Scale) -> str:
    """One line that opens onto the whole response."""
    verdicts = {"strict": transcript.is_correct_strict, "lenient": transcript.is_correct_lenient}
    names = {reading: gains_html.VERDICTS[verdict][0] for reading, verdict in verdicts.items()}
    data = _data(
        **names,
        format="malformed" if transcript.format_error else "well formed",
        steps=_scored(transcript),
        sampling=transcript.sampling,
    )
    shown = "".join(
        f'<span class="verdict {names[reading]}" title="{reading}: {names[reading]}">{SIGNS[verdict]} {reading}</span>'
        for reading, verdict in verdicts.items()
    )
    earned = f"<span>Σ gain {sum(transcript.gain_k):+.2f}</span>" if transcript.gain_k else ""
    problem = (
        f'<span class="malformed">{html.escape(transcript.format_error)}</span>' if transcript.format_error else ""
    )
    return (
        f'<details {data}>\n<summary><span class="side">{html.escape(name)}</span>'
        f"{shown}{_answer(transcript)}{earned}{problem}</summary>\n{_whole(transcript, scale)}</details>\n"
    )


def _scored(transcript: Transcript) -> str:
    return "scored" if transcript.ell_k else "not scored"


def _answer(transcript: Transcript) -> str:
    """That of the answer block, or else what is read for one leniently."""
    block = parse_response(transcript.response).answer
    answer = block or eval_metrics.READINGS["lenient"].answer(transcript)
    if not answer:
        return '<span class="given no-answer">no answer</span>'
    where = "" if block else ' title="not in an answer block"'
    return f'<span class="given"{where}>{html.escape(answer[:ANSWER_CHARACTERS])}</span>'


def _whole(transcript: Transcript, scale: gains_html.Scale) -> str:
    """The response, beside its chart where there are numbers."""
    if not transcript.ell_k:
        return f'<div class="response text">{html.escape(transcript.response)}</div>\n'
    return (
        f'<div class="response body"><div>{gains_html.response_rows(transcript, scale)}</div>\n'
        f"<div>{gains_html.likelihood_chart(transcript.ell_k, transcript.watermark_k)}</div></div>\n"
    )


def _data(**values: str) -> str:
    """What the filters look at."""
    return " ".join(f'data-{name}="{html.escape(value)}"' for name, value in values.items())


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
