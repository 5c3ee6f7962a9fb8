r"""Find what a completion announces as its answer: after "the answer is", "Answer:", 答案, #### or a key of JSON."""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Only so many characters after a lead, and only so many leads, are looked at; the last one counts.
MAX_PASSAGE = 400
MAX_LEADS = 12

_IS = (
    r"(?:(?:is|are|was|equals|becomes|(?:should|must|would|will|can only|has to) be|comes? (?:out )?to)\b"
    r"|[:\N{FULLWIDTH COLON}=→]|[-=]+>)"
)
_MARKS = r"[\s*_`\"'”)\]】}]{0,4}"
_ENGLISH = (
    rf"\b(?:answers?|ans)\b(?:\s+(?:to|for|of|in)\b[^.\n:=]{{0,60}}?\s)?{_MARKS}{_IS}"
    rf"|\b(?:correct|right|best|final)\s+(?:choices?|options?|result|solution)\b{_MARKS}{_IS}"
)
_CHINESE = (
    r"(?:答案|(?:正确|最终|最后)的?(?:选项|结果|结论))[\s*_】」”]{0,4}"
    r"(?:(?:应该?|就|即|只能|故|则)?(?:选择?|[是为])|[:\N{FULLWIDTH COLON}=]|(?<=】))"
    r"|(?:故|应该?|因此|所以|本题|正确|综上)[，,\s]?选[择项]?[是为]?[:\N{FULLWIDTH COLON}]?(?=[\s(（\[]*[A-Z0-9])"
    r"|正确的是|选的是"
    r"|(?:\A|(?<=[\n。，,；;]))[\s*]{0,4}答[:\N{FULLWIDTH COLON}]"
)
# "Answer" in other languages, with its verb or a colon.
_OTHERS = (
    r"\b(?:réponse|respuesta|resposta|risposta|antwort|lösung|ответ|đáp án)\b"
    rf"{_MARKS}(?:(?:correcte?a?|finale?|final|correta) )?(?:(?:est|es|é|è|ist|là|—)(?!\w)|[:：=])"
    r"|(?:答え|正解|정답|답)(?:は|은|는|[:：])"
)
_JSON = r"[\"'](?:final[_ ]?)?(?:answer|choice|option|result|solution|prediction|答案|选项)[\"']\s*[:：]"
# A line with nothing else, such as a heading.
_HEADING = r"^[#*_ ]{0,8}(?:the )?(?:final )?answer[*_ ]{0,4}$"
_HASHES = r"^\#{4}(?=\s+\S)"
LEAD = re.compile(
    rf"(?:{_ENGLISH}|{_CHINESE}|{_OTHERS}|{_JSON}|{_HEADING}|{_HASHES})[*_:：]{{0,3}}", re.IGNORECASE | re.MULTILINE
)
# Takes back an answer: "Answer: A\nWait, actually B."
_CORRECTION = re.compile(
    r"\b(?:wait|actually|sorry|oops|correction|i mean|no,)(?:[\s,.:;!…-]|\b(?:no|actually|sorry|it'?s|it is|should be|"
    r"it should be|i mean|make that|the answer is)\b){1,8}|(?:不对|更正|改为)[，,。:：]?",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\n]*")
# A formula on lines of its own.
_DISPLAYED = re.compile(r"\$\$\s*\n[^$]*\$\$|\\\[\s*\n(?:(?!\\\]).)*\\\]|```\w*\n[^`]*```", re.DOTALL)
# What may stand between a lead and the answer.
_FILLERS = re.compile(
    r"(?:[\s*_:：`\"'“”‘’「」=]"
    r"|\b(?:for sure|definitely|clearly|certainly|surely|obviously|simply|just|therefore|thus|indeed|likely|most likely"
    r"|probably|approximately|approx|about|around|roughly|exactly|equal to|given by|only|the (?:number|value)|option"
    r"|choice|letter|answer|choose|select|that)\b\.?|选项|选择?|约|大约|等于|应该|应|[是为])+",
    re.IGNORECASE,
)
_BECAUSE = re.compile(
    r"[\s,;，；(（]+(?:because|since|as (?:it|the|this)|so that|which|due to|where|when|if|given that"
    r"|(?:(?:and|but) )?not|rather than|instead of|因为|由于|而不?是|不是|不选)(?![A-Za-z])"
    r"|,\s+(?:the|an?|who|i\.e\.)\s",
    re.IGNORECASE,
)
VERB = re.compile(
    r"\b(?:is|are|was|were|equals|has|have|gives?|because|since|so|therefore|thus|hence)\b|因为|所以|因此|答案",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|[。！？]")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|St|Dr|Mr|Mrs|Ms|Jr|Sr|Rs|vs|No|approx|[ap]|[ap]\.m|e\.g|i\.e|etc))\Z")
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*|__([^_\n]{1,300})__")
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "「": "」", "*": "*", "_": "_"}


class Passage(NamedTuple):
    """The text after a lead, to the end of its line, or of the next line that is not blank.

    text: not blank.
    must_begin: whether it counts only if it begins with an answer, because its lead is a weak one: "####", "Wait,".
    """

    text: str
    must_begin: bool


def find_passages(text: str) -> Iterator[Passage]:
    """Yield the passage of each lead, the last one first; corrections count after the last lead only."""
    leads = [*LEAD.finditer(text)][-MAX_LEADS:]
    corrections = [*_CORRECTION.finditer(text, leads[-1].end())][-MAX_LEADS:] if leads else []
    for lead in reversed([*leads, *corrections]):
        after = text[lead.end() : lead.end() + MAX_PASSAGE].lstrip()
        passage = (_DISPLAYED.match(after) or _LINE.match(after) or [""])[0].rstrip()
        is_last = len(after.rstrip()) == len(passage)
        is_heading = lead[0].startswith("####") and (":" in passage or not is_last)
        if passage.strip("*_:. "):
            yield Passage(passage, must_begin=lead.re is _CORRECTION or is_heading)


def without_fillers(passage: str) -> str:
    """Return a passage without what may stand before its answer, such as "for sure" and quotation marks."""
    fillers = _FILLERS.match(passage)
    return passage[fillers.end() :] if fillers else passage


def bold_in(text: str) -> list[str]:
    """Return the parts of a text in bold, in order."""
    return [(match[1] or match[2]).strip() for match in _BOLD.finditer(text)]


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, without its full stop; that of an abbreviation such as "St." ends none."""
    end = next((end for end in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text, 0, end.start())), None)
    return text[: end.start()] if end else text


def without_reason(text: str) -> str:
    """Return a text without a reason or remark: "Paris" of "Paris because it is" and of "Paris, the capital"."""
    reason = _BECAUSE.search(text, 1)
    return text[: reason.start()] if reason else text


def unquoted(text: str) -> str:
    """Return a text without the quotation marks and bold marks around it, and without a final full stop."""
    before = None
    while text != before:
        before = text
        text = text.strip().removesuffix(".").removesuffix("。").strip()
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1]
    return text
