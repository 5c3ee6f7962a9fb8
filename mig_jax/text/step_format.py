r"""Layouts of responses: where the reasoning and the answer are, and how the reasoning divides into steps.

`FORMATS` has ours by name. The config names one, or a `StepFormat` of a user's file:

    # my_format.py                                      response_format = "my_format.py:FORMAT"
    from mig_jax.text.step_format import StepFormat

    FORMAT = StepFormat(think=("<work>", "</work>"), answer=("<final>", "</final>"), splitter="line", step="{text}\n")

Parsing is in `response_format.py`.
"""

import dataclasses
import functools

from mig_jax import parts
from mig_jax.errors import UserError
from mig_jax.text.splitters import HeaderSplitter, Splitter, find_splitter, split_sentences, splitter_error

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
# \boxed{…}, whose braces are matched.
BOXED = ("\\boxed{", "}")
# Whitespace after the tag that opens an answer, and before the one that closes it; see `StepFormat.space`.
# A line break never merges with the text after it, but may with the text before it: `)\n` is often one token.
SPACES = (("", ""), ("\n", " "), ("\n", "\n"))
# How a step is written, by the name of its splitter; lines and others are written as they are.
STEPS: dict[object, str] = {"header": "### Step {number}: {text}\n", "paragraph": "{text}\n\n", "sentence": "{text} "}
# What may follow a box at once, in the endings of an answer that a policy may be expected to write.
_AFTER_BOX = ("", "$", ".", "$.", "\n", "\n\n", "**", "\\)", "$$")


@dataclasses.dataclass(frozen=True)
class StepFormat:
    r"""A layout of responses.

        {think[0]} line break, steps, {think[1]}{before_answer}{answer[0]}the answer{answer[1]}{after_answer}

    Whitespace around tags is free when a response is read; it is as written here in probes and SFT targets.

    instructions: the system prompt; `{example}` in it becomes a response with two steps. "": `INSTRUCTIONS`.
    splitter: finds the steps of the reasoning: a name of `splitters.SPLITTERS`, a function from a text to the spans
      (start, end) of its steps, or a regular expression for their headers.
    think: tags around the reasoning. None: it goes from the beginning to the line that the answer is in.
    answer: tags around the answer, which are written once; or `BOXED`, which may have any text around it, and may be
      repeated with the same content.
    step: how a step is written, with `{text}` and, if it has one, `{number}`; "": as `STEPS` has for the splitter.
    before_answer, after_answer: text that is written around the answer and its tags.
    reads_empty_think: if the think block is empty, the text after it is the reasoning (Qwen3 without thinking).
    fits_lead_in: the beginning of a probe is fitted to its cut: where the cut is inside a line, a line break is written
      first; where the think block is closed already, it is not closed again. Needed where steps end inside lines
      (sentences), and by `reads_empty_think`. Such probes take more memory.
    space: whitespace between the tags and the answer. A tokenizer may merge a tag with the adjacent answer text (`>A`
      is one token in Qwen's vocabulary). A probe is encoded in pieces, so it would then differ from what a policy
      generates. Therefore each tokenizer uses the first of `SPACES` that it merges with no answer.
    prompt_opening: what the prompt has already written of a response, such as "<think>\n"; see `opening`.
    """

    instructions: str = ""
    splitter: Splitter | str = "header"
    think: tuple[str, str] | None = (THINK_OPEN, THINK_CLOSE)
    answer: tuple[str, str] = (ANSWER_OPEN, ANSWER_CLOSE)
    step: str = ""
    before_answer: str = "\n"
    after_answer: str = ""
    reads_empty_think: bool = False
    fits_lead_in: bool = False
    space: tuple[str, str] = SPACES[0]
    prompt_opening: str = ""

    def __post_init__(self):
        if not self.step:
            object.__setattr__(self, "step", STEPS.get(self.splitter, "{text}\n"))

    @property
    def is_boxed(self) -> bool:
        r"""Whether answers are in \boxed{…}."""
        return self.answer == BOXED

    @property
    def opening(self) -> str:
        """How a well-formed response begins; before its first step, a probe writes this after the prompt."""
        return self.whole_opening.removeprefix(self.prompt_opening) if self.prompt_opening else self.whole_opening

    @property
    def whole_opening(self) -> str:
        """The opening with what the prompt may have written of it."""
        opening = f"{self.think[0]}\n" if self.think else ""
        if not self.fits_lead_in:
            return opening
        # The probe before the first step writes all before the answer's tag.
        return f"{opening}\n{self.closing}" if self.reads_empty_think else f"{opening}{self.closing}"

    @property
    def closing(self) -> str:
        """What is written between the last step, whose line break is already written, and the answer's tag."""
        return f"{self.think[1] if self.think else ''}{self.before_answer}"

    @property
    def lead_in(self) -> str:
        """The text of a probe before the answer; after the last step, or after `closing` with `fits_lead_in`."""
        return f"{'' if self.fits_lead_in else self.closing}{self.answer[0]}{self.space[0]}"

    @property
    def close(self) -> str:
        """The text of a probe after the answer."""
        return f"{self.space[1]}{self.answer[1]}{self.after_answer}"

    @property
    def closings(self) -> tuple[str, ...]:
        """The ways to close an answer that a policy may be expected to write, the probe's own first."""
        after = _AFTER_BOX if self.is_boxed else ("",)
        return tuple(
            dict.fromkeys(
                (self.close, *(f"{space}{self.answer[1]}{text}" for text in after for space in ("", " ", "\n")))
            )
        )

    @property
    def line_breaks(self) -> int:
        """The line breaks that end a step before the lead-in."""
        return 1 if self.think else max(1, len(self.step) - len(self.step.rstrip("\n")))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that a well-formed response has once, in their order."""
        return (*(self.think or ()), *(() if self.is_boxed else self.answer))

    @functools.cached_property
    def split(self) -> Splitter:
        """The splitter as a function."""
        return find_splitter(self.splitter, key="splitter") if isinstance(self.splitter, str) else self.splitter

    @property
    def headers(self) -> HeaderSplitter | None:
        """The splitter, if steps begin with headers."""
        return self.split if isinstance(self.split, HeaderSplitter) else None

    def write(self, steps: list[str], answer: str) -> str:
        """Return the response with these steps and this answer, whether or not it parses back."""
        written = "".join(self.step.format(number=n, text=text) for n, text in enumerate(steps, start=1))
        if self.think:
            written = f"{self.think[0]}\n{written.rstrip()}\n"
        return f"{written}{self.closing}{self.answer[0]}{self.space[0]}{answer}{self.close}"

    def system_prompt(self) -> str:
        """Return the instructions with an example of a response."""
        example = self.write(["...", "..."], "only the final answer")
        return (self.instructions or INSTRUCTIONS).replace("{example}", example)

    def with_usual_tags(self, text: str) -> str:
        """Return a text whose think and answer tags are the usual ones, which the lenient reading knows."""
        usual = {ANSWER_OPEN: self.answer[0], ANSWER_CLOSE: self.answer[1]} if not self.is_boxed else {}
        usual |= {THINK_OPEN: self.think[0], THINK_CLOSE: self.think[1]} if self.think else {}
        for tag, own in usual.items():
            text = text.replace(own, tag)
        return text

    def describe(self) -> str:
        """Return the parts of a response in a line, for messages."""
        first, last = self.think or ("", "")
        answer = f"{self.answer[0]}…{self.answer[1]}"
        return ", ".join(part for part in (first, self.describe_steps(), last, answer) if part)

    def describe_steps(self) -> str:
        """Return what a step is, for messages."""
        written = self.step.format(number=1, text="…").strip()
        if self.headers:
            is_read = bool(self.headers(f"{written} …"))
            return f"lines '{written}'" if is_read else f"lines that match {self.headers.header!r}"
        names = {"split_paragraphs": "paragraphs", "split_lines": "lines", "split_sentences": "sentences"}
        return names.get(getattr(self.split, "__name__", ""), "steps")


INSTRUCTIONS = "Solve the problem step by step. Reply in exactly this format, with as many steps as needed:\n{example}"
_BOXED_INSTRUCTIONS = (
    "Think step by step between <think> and </think>, in paragraphs. Then give the final answer in \\boxed{}. The "
    "format:\n{example}"
)

FORMATS: dict[str, StepFormat] = {
    "mig": StepFormat(),
    "r1": StepFormat(
        instructions=_BOXED_INSTRUCTIONS,
        splitter="paragraph",
        answer=BOXED,
        step="{text}\n\n",
        before_answer="\n\n",
    ),
    "qwen3": StepFormat(
        instructions=_BOXED_INSTRUCTIONS,
        splitter="paragraph",
        answer=BOXED,
        step="{text}\n\n",
        before_answer="\n\n",
        reads_empty_think=True,
        fits_lead_in=True,
    ),
    "llama_steps": StepFormat(
        instructions=(
            "Solve the problem step by step. Use this format, with as many steps as needed, and conclude with the "
            "final answer in \\boxed{}:\n{example}"
        ),
        think=None,
        answer=BOXED,
        step="## Step {number}: {text}\n\n",
        before_answer="The final answer is: $",
        after_answer="$",
    ),
    "tunix": StepFormat(
        instructions=(
            "Solve the problem. Write your reasoning between <reasoning> and </reasoning>, a line for each step, and "
            "the final answer alone between <answer> and </answer>:\n{example}"
        ),
        splitter="line",
        think=("<reasoning>", "</reasoning>"),
        step="{text}\n",
    ),
    "plain": StepFormat(
        instructions=(
            "Solve the problem step by step, in paragraphs. Then give the final answer in \\boxed{}. The format:\n"
            "{example}"
        ),
        splitter="paragraph",
        think=None,
        answer=BOXED,
        step="{text}\n\n",
        before_answer="The final answer is ",
        after_answer=".",
    ),
}  # fmt: skip
MIG = FORMATS["mig"]


def find_format(spec: str, *, key: str = "response_format") -> StepFormat:
    """Return one of `FORMATS`, or the format of a user's file or package.

    Raises:
      UserError: there is no such format, or it cannot be used.
    """
    found = parts.find_part(spec, FORMATS, key=key)
    if not isinstance(found, StepFormat):
        raise UserError(f"{key}={spec!r}: is a {type(found).__name__}; must be a mig_jax.text.step_format.StepFormat")
    if errors := format_errors(found):
        raise UserError("\n  ".join(f"{key}={spec!r}: {error}" for error in errors))
    return found


def format_errors(format: StepFormat) -> list[str]:
    """Return what is wrong with the fields of a format."""
    f, errors = format, []
    pairs = {"think": f.think} if f.think is not None else {}
    for name, pair in (pairs | {"answer": f.answer}).items():
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(tag, str) and tag.strip() for tag in pair)
        ):
            errors.append(f"{name}={pair!r}: must be two tags, as in ('<a>', '</a>')")
    if not errors and len({tag for pair in (*pairs.values(), f.answer) for tag in pair}) < 2 * len(pairs) + 2:
        errors.append(f"think={f.think!r}, answer={f.answer!r}: the tags must differ")
    elif not errors and (inside := [(a, b) for a in f.tags for b in f.tags if a != b and a in b]):
        errors.append(f"tags: {inside[0][0]!r} is inside of {inside[0][1]!r}, so it would be read there, too")
    for name in ("instructions", "before_answer", "after_answer", "prompt_opening"):
        if not isinstance(getattr(f, name), str):
            errors.append(f"{name}={getattr(f, name)!r}: must be a text")
    try:
        if "x·" not in f.step.format(number=1, text="x·"):
            errors.append(f"step={f.step!r}: must contain {{text}}")
        elif not f.step[-1].isspace():
            errors.append(f"step={f.step!r}: must end with a line break or a blank")
    except (ValueError, LookupError, AttributeError, TypeError):
        errors.append(f"step={f.step!r}: must be a text with {{text}} and {{number}} alone in braces")
    try:
        if not isinstance(f.split, HeaderSplitter) and (error := splitter_error(f.split)):
            errors.append(f"splitter: {error}")
    except (UserError, TypeError) as error:
        errors.append(str(error))
    if not errors and f.split is split_sentences and not f.fits_lead_in:
        errors.append("splitter='sentence' needs fits_lead_in=True, because such steps end inside lines")
    if f.splitter == "header" and not errors:
        written = "".join(f.step.format(number=n, text="a") for n in (1, 2))
        if (found := len(f.split(written))) != 2:
            errors.append(f"step={f.step!r}: two steps are written as {written!r}, of which the splitter reads {found}")
    if f.reads_empty_think and not (f.think and f.fits_lead_in):
        errors.append("reads_empty_think needs think and fits_lead_in")
    return errors
