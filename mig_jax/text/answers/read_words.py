"""Read the words that a text answers: yes or no, texts, and sets."""

import re
from collections.abc import Sequence

from mig_jax.text.answers.compare import polarity
from mig_jax.text.answers.conclusions import concluding
from mig_jax.text.answers.leads import (
    LEAD,
    VERB,
    Passage,
    find_passages,
    first_sentence,
    unquoted,
    without_fillers,
    without_reason,
)
from mig_jax.text.answers.math_in_text import find_formulas
from mig_jax.text.answers.normalize import strip_wrappers
from mig_jax.text.answers.values import MAX_SEARCHED

# Words in bold or quotation marks that begin a passage.
MARKED = re.compile(
    r"\s*(?:\*\*(?P<bold>[^*]+)\*\*|[\"'`“‘「](?P<quoted>[^\"'`“”‘’「」\n]+)[\"'`”’」](?=[\s.,;)}\]]|\Z))"
)
_YES_OR_NO = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)
# Words of Chinese that are an answer when they stand alone.
_CHINESE_YES_OR_NO = re.compile(
    r"(?:(?<![\w√×])(?:不正确|正确|错误|不对|对|错|不是|是|不|否|没有|不能|能|可以|√|×)"
    r"|(?:(?<=[是故])|(?<=所以|因此))(?:不正确|正确|错误|不对|对|错))的?(?=[\s，。,.！!；;*\"'”’}]|\Z)"
)
_BOTH = re.compile(
    r"(?:yes|true)\W*(?:\b(?:and|or)\b|/)\W*(?:no|false)\b|(?:no|false)\W*(?:\b(?:and|or)\b|/)\W*(?:yes|true)\b", re.I
)
_NEGATION = re.compile(r"\bnot\b|n['’]t\b|\bno idea\b", re.IGNORECASE)
_WEAKENED = re.compile(
    r"(?:(?P<negation>\bnot|n['’]t|\bnever)|\b(?:maybe|perhaps|possibly))"
    r"(?: (?:a|be|always|the|really|quite))?[ \"*]{1,3}\Z",
    re.IGNORECASE,
)
# A first word that is the answer by itself, unlike those of "No other cube is red" or "Yes or no?".
_FIRST_WORD_YES_OR_NO = re.compile(
    rf"\W*(?P<word>{_YES_OR_NO.pattern})"
    r"(?=\s*(?:[^\w\s/?-]|-\s|\Z)|\s+(?:because|since|it|that|the|there|this|they|he|she|we|you)\b)",
    re.IGNORECASE,
)
# Letters of several choices: "Options A and C are correct", "A C".
_OPTIONS = re.compile(r"\b(?:options?|choices?)\s+(?P<letters>[A-H](?:\s*(?:,|and|&|、)\s*[A-H])+)\b", re.IGNORECASE)
_CHINESE_OPTIONS = re.compile(
    r"(?<![不可能])选(?:项|择)?[:：]?\s*(?P<letters>[A-H](?:[、,，和\s]*[A-H]){1,7})(?![A-Za-z])"
)
_SPACED_LETTERS = re.compile(r"\b([A-H]) (?=[A-H]\b)")
# Longest reply of one line that is an answer without a lead, in words.
_MAX_BARE_WORDS = 12


def read_yes_or_no(text: str, choices: Sequence[str]) -> str | None:
    """Return the yes, no, true or false that a text answers."""
    for passage in find_passages(text):
        find = "match" if passage.must_begin else "search"
        body = without_fillers(passage.text)
        if not passage.must_begin and (_BOTH.match(body) or _NEGATION.match(body)):
            return first_sentence(body)
        for pattern in (_YES_OR_NO, _CHINESE_YES_OR_NO):
            if word := getattr(pattern, find)(body):
                return _unless_negated(word)
    bare = bare_line(text)
    if bare and _BOTH.match(bare) and "?" not in bare:
        return bare
    for line in (text.rstrip().rpartition("\n")[2], text.lstrip().partition("\n")[0]):
        if first_word := _FIRST_WORD_YES_OR_NO.match(line):
            return first_word["word"]
        if chinese := _CHINESE_YES_OR_NO.match(line.lstrip("* ")):
            return chinese[0]
    *_, last = (None, *_YES_OR_NO.finditer(text), *_CHINESE_YES_OR_NO.finditer(text))
    return last and _unless_negated(last)


def _unless_negated(word: re.Match[str]) -> str | None:
    """Return a yes or no; no for "not true", None for other words that are negated or only possible."""
    before = _WEAKENED.search(word.string, max(0, word.start() - 24), word.start())
    if before:
        return "no" if word[0].lower() == "true" and before["negation"] else None
    return word[0]


def read_words(text: str, choices: Sequence[str]) -> str | None:
    """Return the words after a lead, or a reply of one line."""
    for passage in find_passages(text):
        if not passage.must_begin and (words := words_after_lead(passage)):
            return words
    line = bare_line(text)
    return line and unquoted(line)


def words_after_lead(passage: Passage) -> str:
    """Return the words of a passage without a reason and marks around them; what is in bold, if it begins so."""
    if marked := MARKED.match(passage.text):
        return unquoted(marked["bold"] or marked["quoted"])
    return strip_wrappers(unquoted(without_reason(first_sentence(passage.text)).strip())).strip("*_")


def bare_line(text: str) -> str | None:
    """Return a reply that is one short line without a lead; None if it is anything else."""
    line = text.strip()
    is_bare = "\n" not in line and len(line.split()) <= _MAX_BARE_WORDS and not LEAD.search(line)
    return line if line and is_bare else None


def read_set(text: str, choices: Sequence[str]) -> str | None:
    """Return the members that a text answers."""
    for passage in find_passages(text):
        if passage.must_begin:
            continue
        formulas = [value for value in find_formulas(passage.text) if "$" in passage.text[value.start]]
        words = words_after_lead(passage)
        return formulas[0].text if formulas else _SPACED_LETTERS.sub(r"\1, ", words)
    if named := _OPTIONS.search(text) or _CHINESE_OPTIONS.search(text):
        return named["letters"]
    line, tail = bare_line(text), text[-MAX_SEARCHED:]
    if line and not VERB.search(line):
        return unquoted(line)
    last = concluding(tail, find_formulas(tail))
    return last.text if last else line and unquoted(line)


def is_polar(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is yes or no, or leaves it open ("yes and no"), so that no word of it is an answer."""
    words = {word.lower() in ("yes", "true") for word in _YES_OR_NO.findall(content)}
    is_open = len(words) > 1 or _NEGATION.search(content) is not None
    return polarity(content) is not None or (is_open and not LEAD.search(content))


def has_no_lead(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content has no lead."""
    return not LEAD.search(content)
