r"""Reference answers that are written solutions: the answer itself is taken out of them.

Natalia sold 48/2 = 24 clips. …\n#### 72       72
… so there are $\boxed{2}$ of them.            2
<answer> C </answer>                           C
"""

import re
from typing import NamedTuple

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class Reference(NamedTuple):
    """An answer that was taken out of a solution.

    answer: the answer itself.
    steps: the text before it.
    mark: what marks it, for messages.
    """

    answer: str
    steps: str
    mark: str


def take_answer(text: str) -> Reference | None:
    r"""Return the answer of a written solution: after a last line ####, in answer tags, or in the last \boxed{}.

    None if the text marks no answer in one of these ways, or an empty one; it is then the answer itself.
    """
    lines = text.rstrip().rsplit("\n", 1)
    marked = lines[-1].partition("####")
    if marked[1] and marked[2].strip():
        before = "\n".join([*lines[:-1], marked[0]])
        return Reference(marked[2].strip(), before.strip(), "####")
    tagged = list(_TAGGED.finditer(text))
    if tagged and tagged[-1][1].strip():
        answer = tagged[-1][1].strip()
        inner = last_box(answer)
        return Reference(inner or answer, text[: tagged[-1].start()].strip(), "<answer>")
    boxed = last_box(text)
    return Reference(boxed, text.strip(), "\\boxed{}") if boxed else None


def last_box(text: str) -> str | None:
    r"""Return the content of the last \boxed{…} outside of others, None if there is none or it is empty."""
    found, end = None, 0
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue
        depth = 1
        for brace in _BRACE.finditer(text, box.end()):
            depth += (brace[0] == "{") - (brace[0] == "}")
            if depth == 0:
                found, end = text[box.end() : brace.start()].strip(), brace.end()
                break
    return found or None
