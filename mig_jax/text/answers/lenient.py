r"""Lenient answer extraction: find the answer anywhere in a completion, in any format.

It credits the intended answer even if the response is malformed in the sense of `response_format`. A completion is
searched from the clearest place to the least clear one:

    1. the last answer block with any content, closed or not
    2. the text after the last </think>; if that has no answer, the whole text:
       a. the last \boxed{…}; adjacent ones such as \boxed{1} and \boxed{2} are one answer
       b. what follows the last lead, such as "the answer is", "Answer:", 答案 or ####, see `leads`
       c. a rule for the kind, see `READERS`

A block or box may hold a sentence. It is then read like a text, unless it is an answer as it stands.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mig_jax.text.answers.compare import parse_share, polarity
from mig_jax.text.answers.leads import (
    LEAD,
    Passage,
    bold_in,
    find_passages,
    first_sentence,
    unquoted,
    without_fillers,
    without_reason,
)
from mig_jax.text.answers.named_choice import names_one_choice, read_choice
from mig_jax.text.answers.normalize import strip_wrappers
from mig_jax.text.answers.quantities import parse_number, parse_number_answer
from mig_jax.text.answers.values import (
    MAX_SEARCHED,
    QUALIFIED,
    Value,
    concluding,
    find_formulas,
    find_numbers,
    math_spans,
    result_of,
)

# Full-width characters, as typed in Chinese text, and their ASCII forms.
_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ANSWER_TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>", re.IGNORECASE)
_THINK_CLOSE = "</think>"
# A brace, with \boxed if that is before it; escaped braces also match, to be skipped.
_BRACE = re.compile(r"\\(?:boxed|f?box|framebox) ?\{|\\[{}]|[{}]|\\boxed ?(?P<bare>[0-9A-Za-z])(?![0-9A-Za-z])")
_NON_BLANK = re.compile(r"\S")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$]|\\[)\],;:!]|\\q?quad)*"
    r"(?:,|;|and|or|和|或|、|,\s*and|\\text ?\{[^{}]*\b(?:and|or) ?\})?"
    r"(?:[\s$]|\\[(\[,;:!]|\\q?quad)*"
)
# What may stand between a lead and its number: "x =", brackets, dollar signs.
_BEFORE_NUMBER = re.compile(r"[\s$(\[{*~+≈]*(?:\\[(\[]|\\text\{|\\boxed\{)?\s*(?:[A-Za-z]\w?\s*=\s*)?")
# A number that goes on, as a range, sum, list or formula.
_CONTINUED = re.compile(
    r"\s?[-\N{EN DASH}][0-9]|\s*[+*/^:<>_×·÷]|\s*\\(?:pi|sqrt|frac|times|cdot|pm)|\.[0-9]"
    r"|,\s*-?[0-9]|\s(?:and|to)\s+(?:-?\$?[0-9]|an?\b)"
)
_LABELED = re.compile(r"[A-Za-z]\w* [-\N{EN DASH}] ")
_OR = re.compile(r"[\s,]*(?:or|或)[\s$]*")
# A variable by itself, which is mentioned rather than answered.
_NAME = re.compile(r"[A-Za-z]'?|\\(?!pi|infty|emptyset|varnothing)[A-Za-z]+")
_DOUBLE_BACKSLASH = re.compile(r"\\\\(?=(?:[dt]?frac|sqrt|text|pi|boxed|cdot|times|left|right|leq?|geq?)(?![A-Za-z]))")
# Words between dollar signs.
_DOLLARS = re.compile(r"\s*\$(?P<content>(?=[A-Za-z0-9])[^$\n\\]{2,60}(?<=\S))\$")
# "and" and "or" without blanks: x=1orx=2.
_GLUED_WORD = re.compile(r"(?<=[0-9)}])(and|or)(?=[A-Za-z0-9(\\])")
# Words in bold or quotation marks that begin a passage.
_MARKED = re.compile(
    r"\s*(?:\*\*(?P<bold>[^*]+)\*\*|[\"'`“‘「](?P<quoted>[^\"'`“”‘’「」\n]+)[\"'`”’」](?=[\s.,;)}\]]|\Z))"
)
_CODE = re.compile(r"__|\w\(['\"]|\blambda\b|\bfor \w+ in\b|^(?:import|def) ", re.MULTILINE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|equals|has|have|gives?|because|since|so|therefore|thus|hence)\b|因为|所以|因此|答案",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z])")
_YES_OR_NO = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)
# Words of Chinese that are an answer when they stand alone.
_CHINESE_YES_OR_NO = re.compile(
    r"(?:(?<![\w√×])(?:不正确|正确|错误|不对|对|错|不是|是|不|否|没有|不能|能|可以|√|×)"
    r"|(?<=是)(?:不正确|正确|错误|不对|对|错))的?(?=[\s，。,.！!；;*\"'”’}]|\Z)"
)
_BOTH = re.compile(
    r"(?:yes|true)\W*(?:\b(?:and|or)\b|/)\W*(?:no|false)\b|(?:no|false)\W*(?:\b(?:and|or)\b|/)\W*(?:yes|true)\b", re.I
)
_NEGATION = re.compile(r"\bnot\b|n['’]t\b|\bno idea\b", re.IGNORECASE)
# A first word that is the answer by itself, unlike those of "No other cube is red" or "Yes or no?".
_FIRST_WORD_YES_OR_NO = re.compile(
    rf"\W*(?P<word>{_YES_OR_NO.pattern})"
    r"(?=\s*(?:[^\w\s/?-]|-\s|\Z)|\s+(?:because|since|it|that|the|there|this|they|he|she|we|you)\b)",
    re.IGNORECASE,
)
# Letters of several choices: "Options A and C are correct", "A C".
_OPTIONS = re.compile(r"\b(?:options?|choices?)\s+(?P<letters>[A-H](?:\s*(?:,|and|&|、)\s*[A-H])+)\b", re.IGNORECASE)
_SPACED_LETTERS = re.compile(r"\b([A-H]) (?=[A-H]\b)")
# Without a block or box, the answer is in so many characters at the end of a completion.
MAX_READ = 10_000
_JOINING_WORDS = {"and", "or", "to", "half", "quarter"}
# Longest reply of one line that is an answer without a lead, in words.
_MAX_BARE_WORDS = 12


class Reader(NamedTuple):
    """How the answers of a kind are read.

    read: returns the answer in a text, or None.
    is_answer: returns whether the content of a block or box is an answer as it stands, no sentence around one.
    """

    read: Callable[[str, Sequence[str]], str | None]
    is_answer: Callable[[str, Sequence[str]], bool]


def extract_lenient_answer(completion: str, *, kind: str, choices: Sequence[str] = ()) -> str | None:
    r"""Return the answer of a completion; None if nothing is found. Never raises; time is linear in the length.

    The places are searched in the order of this module. Without block, box and lead, the rule for the kind is:
      number, expression: the last number or formula, except for labels (Step 5) and details (in 3 hours).
      relaxed, integer, rounded: the same, in a form that Python's `float` reads.
      choice, nearest_choice: see `named_choice`.
      yes_no: the word that begins the last line, or the first line; else the last such word.
      text, set, reasoning_gym: a reply of one line.

    Args:
      completion: any text.
      kind: how the answer will be compared, one of `kinds.KINDS`, or a user's own.
      choices: texts of the choices; () accepts all letters.
    """
    reader = _find_reader(kind)
    text = completion if reader is READERS["text"] else completion.translate(_TO_ASCII)
    if block := _last_block(text):
        return _read_content(block, reader, choices)
    conclusion = text.rpartition(_THINK_CLOSE)[2]
    for part in dict.fromkeys((conclusion, text)):
        if boxed := _last_boxed(part):
            return _read_content(boxed, reader, choices)
        if answer := reader.read(part[-MAX_READ:], choices):
            return answer
    return None


def _find_reader(kind: str) -> Reader:
    """Return how answers of a kind are read; for a user's own kind, the content of a block or box is the answer."""
    from mig_jax.text.answers.kinds import find_kind  # which imports this module

    read = find_kind(kind).read or READERS["text"]
    return read if isinstance(read, Reader) else Reader(read, lambda text, choices: True)


def _read_content(content: str, reader: Reader, choices: Sequence[str]) -> str:
    """Return the answer in the content of a block or box: the content itself, or what is read in it."""
    inner = strip_wrappers(content)
    for text in dict.fromkeys((content, _last_boxed(content), inner, without_reason(inner))):
        if text and reader.is_answer(text, choices):
            return text
    return reader.read(inner, choices) or content


def _last_block(text: str) -> str | None:
    """Return the content of the last answer block that is not blank, closed or not."""
    pieces = _ANSWER_TAG.split(text)
    blocks = (piece.strip() for slash, piece in zip(pieces[-2::-2], pieces[::-2], strict=False) if not slash)
    return next(filter(None, blocks), None)


def _last_boxed(text: str) -> str:
    r"""Return the content of the \boxed{…} that is closed last and is not blank; "" if there is none.

    Boxes right before it, separated by a comma or "and", belong to the same answer.
    """
    boxes: list[tuple[int, int, int, int]] = []  # where the box and its content start, where they end
    opened: list[tuple[int, int] | None] = []  # for each open brace: where its \boxed and the content start, or None
    for brace in _BRACE.finditer(text):
        if brace["bare"]:
            boxes.append((brace.start(), *brace.span("bare"), brace.end()))
        elif brace[0] == "}":
            boxed = opened.pop() if opened else None
            if boxed and _NON_BLANK.search(text, boxed[1], brace.start()):
                boxes.append((*boxed, brace.start(), brace.end()))
        elif brace[0] == "{" or len(brace[0]) > 2:
            opened.append(None if brace[0] == "{" else brace.span())
    if not boxes:
        return ""
    parts = [last := boxes.pop()]
    while boxes and boxes[-1][3] <= last[0] and _BETWEEN_BOXES.fullmatch(text, boxes[-1][3], last[0]):
        parts.append(last := boxes.pop())
    return ", ".join(text[start:end].strip() for _, start, end, _ in reversed(parts))


# ------------------------------------------------------------------------------------------------ numbers and formulas


def _read_number(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers."""
    for passage in find_passages(text):
        if number := _number_after_lead(passage):
            return number
    tail, line = text[-MAX_SEARCHED:], _bare_line(text)
    numbers = find_numbers(tail)
    if line and numbers and not _LABELED.match(line) and r"\boxed" not in line:
        whole = parse_number_answer(unquoted(line))
        if whole != parse_number_answer(numbers[-1].text) if whole else not _has_words(line):
            return unquoted(line)
    bold = [number for part in _bold_conclusion(tail) if (number := _whole_number(part))]
    last = concluding(tail, numbers)
    if last and (formula := next((span for span in math_spans(tail) if span.start <= last.start < span.end), None)):
        return _number_of_formula(formula.text, last.text)
    is_choice = last is not None and any(_are_alternatives(tail, number, last) for number in numbers)
    return bold[-1] if bold else last.text if last and not is_choice else None


def _number_of_formula(formula: str, last: str) -> str:
    """Return the number that a formula between dollar signs is; the formula as it stands if it is none."""
    whole = parse_number_answer(formula)
    if whole is None:
        return last if "=" in formula else formula
    return last if whole == parse_number_answer(last) else formula


def _number_after_lead(passage: Passage) -> str | None:
    """Return the number of a passage after a lead; the words as they stand if it offers several."""
    body = without_fillers(passage.text).replace("**", "")
    numbers = find_numbers(body)
    if not numbers:
        return None
    first, *others = numbers
    clause = _stripped(without_reason(first_sentence(body)))
    is_single = len(find_numbers(clause)) == 1 or "=" in clause
    if not _has_words(clause) or (is_single and parse_number_answer(clause) is not None):
        return clause
    if _BEFORE_NUMBER.fullmatch(body, 0, first.start):
        if others and _are_alternatives(body, first, others[0]):
            return first_sentence(body)
        if _CONTINUED.match(body, first.end) and "=" not in clause:
            return clause
        after_equals = [number for number in numbers if clause.rfind("=") < number.start < len(clause)]
        return (after_equals or numbers)[0].text
    if passage.must_begin:
        return None
    bold = [number for part in bold_in(passage.text) if (number := _whole_number(part))]
    last = concluding(body, [number for number in numbers if number.start < len(first_sentence(body))] or numbers)
    return bold[0] if bold else last and last.text


def _stripped(clause: str) -> str:
    """Return a clause without marks around it, and without closing marks whose opening ones are missing."""
    clause = unquoted(clause).strip(" *_\"'`“”’")
    if clause.count("}") > clause.count("{"):
        clause = clause.rstrip(" }\"'")
    return clause.rstrip("$").strip() if clause.count("$") == 1 and clause.endswith("$") else clause


def _are_alternatives(text: str, one: Value, other: Value) -> bool:
    """Return whether a text leaves open which of two numbers it means: "5 or 6", but not "1/2 or 0.5"."""
    if not _OR.fullmatch(text, one.end, other.start):
        return False
    return parse_number_answer(one.text) != parse_number_answer(other.text)


def _whole_number(part: str) -> str | None:
    """Return the number that begins a part in bold and is the only one in it."""
    numbers = find_numbers(part)
    is_whole = len(numbers) == 1 and _BEFORE_NUMBER.fullmatch(part, 0, numbers[0].start)
    return numbers[0].text if is_whole and not part.endswith((".", ":", ")")) else None


def _bold_conclusion(text: str) -> list[str]:
    """Return the parts in bold of the last paragraph that has a digit."""
    paragraphs = (part for part in reversed(text.split("\n\n")) if re.search(r"[0-9]", part))
    return bold_in(next(paragraphs, ""))


def _read_float(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, in a form that Python's `float` reads."""
    number = _read_share(text, choices)
    return number and number.removesuffix("%")


def _read_share(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, in a form that `float` reads except for a percent sign (ChartQA)."""
    answer = _read_number(text, choices)
    if answer is None:
        return None
    plain = re.sub(r"(?<=[0-9])(?:,|\{,\})(?=[0-9]{3})", "", answer)
    if parse_share(plain) is not None:
        return plain
    number = parse_number_answer(answer)
    if number is None:
        return answer
    value = number.value
    decimal = f"{value.numerator}" if value.denominator == 1 else f"{float(value)}"
    return decimal + ("%" if number.is_percent and "point" not in answer else "")


def _read_chart_answer(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, or else the words after a lead, or a short reply of one line."""
    for passage in find_passages(text):
        if not passage.must_begin and not find_numbers(passage.text):
            return _words_after_lead(passage) or None
    return _read_share(text, choices) or _bare_name(text)


def _bare_name(text: str) -> str | None:
    """Return a reply that is one word, or a few words that begin with capitals."""
    words = unquoted(text.strip()).split()
    is_name = len(words) == 1 or (0 < len(words) <= 4 and all(word[:1].isupper() for word in words))
    return " ".join(words) if is_name and not LEAD.search(text) else None


def _read_formula(text: str, choices: Sequence[str]) -> str | None:
    """Return the formula that a text answers."""
    line = _bare_line(text)
    if line and _CODE.search(line):
        return line
    if line and QUALIFIED.fullmatch(unquoted(line)):
        return unquoted(line)
    text = _GLUED_WORD.sub(r" \1 ", _DOUBLE_BACKSLASH.sub(r"\\", text)).replace(r"\boxed{", " ")
    for passage in find_passages(text):
        if formula := _formula_after_lead(passage):
            return result_of(formula)
    tail = text[-MAX_SEARCHED:]
    formulas = find_formulas(tail)
    bold = [part for part in _bold_conclusion(tail) if _is_formula(part)]
    last = concluding(tail, [formula for formula in formulas if not _NAME.fullmatch(formula.text)])
    if bold or last:
        return result_of(bold[-1] if bold else last.text if last else "")
    spans = [span["content"] for span in _DOLLARS.finditer(tail)]
    return [None, *spans, *bold_in(tail)][-1] or (line and unquoted(line))


def _formula_after_lead(passage: Passage) -> str | None:
    """Return the formula of a passage after a lead; its words if it has none."""
    body = without_fillers(passage.text)
    formulas = [formula for formula in find_formulas(body) if not _NAME.fullmatch(formula.text)]
    clause = unquoted(without_reason(first_sentence(body)))
    marked = _MARKED.match(passage.text) or _DOLLARS.match(passage.text)
    for text in (marked[marked.lastgroup or 0].strip() if marked else "", clause):
        if QUALIFIED.fullmatch(text.rstrip(".")):
            return text.rstrip(".")
    if marked and marked.re is _DOLLARS and not any(formula.text in marked["content"] for formula in formulas):
        return marked["content"]
    if formulas and not body[: formulas[0].start].strip(" $([*"):
        return formulas[0].text
    if passage.must_begin:
        return None
    bold = [part for part in bold_in(passage.text) if _is_formula(part)]
    sentence = first_sentence(body)
    last = concluding(sentence, [found for found in find_formulas(sentence) if not _NAME.fullmatch(found.text)])
    return bold[0] if bold else last.text if last else _words_after_lead(passage)


def _is_formula(text: str) -> bool:
    """Return whether a text is one formula, without words and not the number of a list item."""
    values = find_formulas(text)
    is_whole = len(values) == 1 and not re.search(r"\w", text[: values[0].start] + text[values[0].end :])
    return is_whole and not text.endswith((".", ":"))


# --------------------------------------------------------------------------------------------- yes or no, texts, sets


def _read_yes_or_no(text: str, choices: Sequence[str]) -> str | None:
    """Return the yes, no, true or false that a text answers."""
    for passage in find_passages(text):
        find = "match" if passage.must_begin else "search"
        body = without_fillers(passage.text)
        if not passage.must_begin and (_BOTH.match(body) or _NEGATION.match(body)):
            return first_sentence(body)
        for pattern in (_YES_OR_NO, _CHINESE_YES_OR_NO):
            if word := getattr(pattern, find)(body):
                return word[0]
    bare = _bare_line(text)
    if bare and _BOTH.match(bare) and "?" not in bare:
        return bare
    for line in (text.rstrip().rpartition("\n")[2], text.lstrip().partition("\n")[0]):
        if first_word := _FIRST_WORD_YES_OR_NO.match(line):
            return first_word["word"]
        if chinese := _CHINESE_YES_OR_NO.match(line.lstrip("* ")):
            return chinese[0]
    *_, last = (None, *_YES_OR_NO.findall(text), *_CHINESE_YES_OR_NO.findall(text))
    return last


def _read_words(text: str, choices: Sequence[str]) -> str | None:
    """Return the words after a lead, or a reply of one line."""
    for passage in find_passages(text):
        if not passage.must_begin and (words := _words_after_lead(passage)):
            return words
    line = _bare_line(text)
    return line and unquoted(line)


def _words_after_lead(passage: Passage) -> str:
    """Return the words of a passage without a reason and marks around them; what is in bold, if it begins so."""
    if marked := _MARKED.match(passage.text):
        return unquoted(marked["bold"] or marked["quoted"])
    return strip_wrappers(unquoted(without_reason(first_sentence(passage.text)).strip())).strip("*_")


def _bare_line(text: str) -> str | None:
    """Return a reply that is one short line without a lead; None if it is anything else."""
    line = text.strip()
    is_bare = "\n" not in line and len(line.split()) <= _MAX_BARE_WORDS and not LEAD.search(line)
    return line if line and is_bare else None


def _read_set(text: str, choices: Sequence[str]) -> str | None:
    """Return the members that a text answers."""
    for passage in find_passages(text):
        if passage.must_begin:
            continue
        formulas = [value for value in find_formulas(passage.text) if "$" in passage.text[value.start]]
        words = _words_after_lead(passage)
        return formulas[0].text if formulas else _SPACED_LETTERS.sub(r"\1, ", words)
    if named := _OPTIONS.search(text):
        return named["letters"]
    line, tail = _bare_line(text), text[-MAX_SEARCHED:]
    if line and not _VERB.search(line):
        return unquoted(line)
    last = concluding(tail, find_formulas(tail))
    return last.text if last else line and unquoted(line)


# ---------------------------------------------------------------------------------------------------- blocks and boxes


def _is_number(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is one number, or has no words, so that it is no sentence."""
    before_equals = content.rpartition("=")[0]
    return not _has_words(content) or parse_number_answer(content) is not None and not _has_words(before_equals)


def _has_words(text: str) -> bool:
    """Return whether a text has words, other than those between numbers such as "3 to 4" and "3 and a half"."""
    words = {word.lower() for word in _WORD.findall(text)}
    return not words <= _JOINING_WORDS or re.search("[一-鿿]", text) is not None


def _is_float(content: str, choices: Sequence[str]) -> bool:
    """Return whether Python's `float` reads a content."""
    return parse_share(content) is not None


def _is_chart_answer(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is a number or words, but no sentence with a number and no number with a unit."""
    number = parse_number(content.removeprefix("$").replace(r"\%", "%"))
    return parse_share(content) is not None or not (number or _is_sentence(content))


def _is_math(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is mathematics or words, but no sentence."""
    return not _is_sentence(content)


def _is_sentence(content: str) -> bool:
    r"""Return whether a content has a lead, or a verb beside words or mathematics, outside \text{…}."""
    outside = re.sub(r"\\(?:text|mathrm|mbox) ?\{[^{}]*\}", " ", content)
    return bool(LEAD.search(outside) or (_VERB.search(outside) and len(_WORD.findall(outside)) >= 2)) or (
        re.search("[一-鿿]", outside) is not None and _VERB.search(outside) is not None
    )


def _is_polar(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is yes or no, or leaves it open ("yes and no"), so that no word of it is an answer."""
    words = {word.lower() in ("yes", "true") for word in _YES_OR_NO.findall(content)}
    is_open = len(words) > 1 or _NEGATION.search(content) is not None
    return polarity(content) is not None or (is_open and not LEAD.search(content))


def _has_no_lead(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content has no lead."""
    return not LEAD.search(content)


READERS = {
    "number": Reader(_read_number, _is_number),
    "expression": Reader(_read_formula, _is_math),
    "relaxed": Reader(_read_chart_answer, _is_chart_answer),
    **dict.fromkeys(("integer", "rounded"), Reader(_read_float, _is_float)),
    **dict.fromkeys(("choice", "nearest_choice"), Reader(read_choice, names_one_choice)),
    "yes_no": Reader(_read_yes_or_no, _is_polar),
    "set": Reader(_read_set, _has_no_lead),
    **dict.fromkeys(("text", "reasoning_gym"), Reader(_read_words, _has_no_lead)),
}
