"""The style and the script of the transcript browser."""

from mig_jax.records import html_page

STYLE = (
    html_page.STYLE
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

# Hides what the filters exclude. Collects the elements once; reads the text of an element only when text is searched.
SCRIPT = """
const form = document.querySelector("form"), output = form.querySelector("output");
const selects = [...form.querySelectorAll("select")], search = form.querySelector("input");
const cards = [...document.querySelectorAll("article")].map(card => ({
  card, samples: card.querySelector(".samples"), question: card.querySelector(".question"),
  responses: [...card.querySelectorAll("details[data-strict]")]}));
const texts = new Map();
function text(element) {
  if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase());
  return texts.get(element);
}
const format = value => value.toLocaleString("en");
function filter() {
  const chosen = selects.filter(select => select.selectedIndex > 0).map(select => [select.name, select.value]);
  const query = search.value.trim().toLowerCase();
  let shownProblems = 0, shownResponses = 0, allResponses = 0;
  for (const {card, samples, question, responses} of cards) {
    const onCard = chosen.filter(([name]) => name in card.dataset);
    const onResponse = chosen.filter(([name]) => !(name in card.dataset));
    const cardMatches = onCard.every(([name, value]) => card.dataset[name] === value);
    const questionMatches = !query || (cardMatches && text(question).includes(query));
    let shown = 0, shownSamples = 0;
    for (const response of responses) {
      const matches = cardMatches && onResponse.every(([name, value]) => response.dataset[name] === value)
        && (questionMatches || text(response).includes(query));
      if (response.hidden === matches) response.hidden = !matches;
      if (matches) { shown++; if (response.parentElement === samples) shownSamples++; }
    }
    if (samples) {
      samples.hidden = !shownSamples;
      samples.open = shownSamples > 0 && (onResponse.length > 0 || !questionMatches);
    }
    card.hidden = !shown;
    shownProblems += shown > 0; shownResponses += shown; allResponses += responses.length;
  }
  for (const select of selects) select.classList.toggle("set", select.selectedIndex > 0);
  output.textContent = `${format(shownProblems)} of ${format(cards.length)} problems, `
    + `${format(shownResponses)} of ${format(allResponses)} responses`;
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
