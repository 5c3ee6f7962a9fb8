"""Example transcripts: a plain one, a hostile one, ones without steps or scores, and one with images."""

import dataclasses
import io

from PIL import Image

from mig_jax.records.transcripts import Transcript


def _png(color: str, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


# Markup of HTML, TeX and matplotlib, control characters, and characters that fonts or UTF-8 lack.
HOSTILE = "$\\frac{1}{2$ <script>alert('x')</script> & \"quoted\" \x00 \u202e 中文 \U0001f914 \ud800 100% _a^b $$$$$$$"

PLAIN = Transcript(
    question="Last digits of 7 +5 -3 *3",
    response="<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=8\n### Step 3: 8*3=4\n</think>\n<answer>284</answer>",
    answer="297",
    is_correct=False,
    steps=("### Step 1: 7+5=2", "### Step 2: 2-3=8", "### Step 3: 8*3=4"),
    ell_k=(-2.5, -1.25, -1.75, -1.0),
    watermark_k=(-2.5, -1.25, -1.25, -1.0),
    gain_k=(1.25, 0.0, 0.25),
)

NASTY = Transcript(
    question=HOSTILE,
    response=f"<think>{HOSTILE}\n### Step 1: {HOSTILE}",
    answer=HOSTILE,
    format_error=HOSTILE,
    steps=(f"### Step 1: {HOSTILE}", "not in the response " + "x" * 5000),
    ell_k=(float("nan"), -3.0, float("-inf")),
    watermark_k=(float("nan"), -3.0, -3.0),
    gain_k=(float("nan"), -0.5),
)

# Without steps; without scores; without either.
MINIMAL = (
    Transcript(question="q", response="no steps", answer="1", is_correct=True, ell_k=(-1.0,), watermark_k=(-1.0,)),
    Transcript(question="q", response="### Step 1: s", answer="1", steps=("### Step 1: s",)),
    Transcript(question="q", response="", answer="1"),
)

WITH_IMAGES = dataclasses.replace(PLAIN, images=(_png("red", (6, 6)), _png("blue", (9, 3))))
