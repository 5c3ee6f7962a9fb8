"""Read the numbers and formulas that a text answers."""

import re
from collections.abc import Sequence

from mig_jax.text.answers.compare import parse_share
from mig_jax.text.answers.conclusions import concluding
from mig_jax.text.answers.leads import (
    LEAD,
    VERB,
    Passage,
    bold_in,
    find_passages,
    first_sentence,
    unquoted,
    without_fillers,
    without_reason,
)
from mig_jax.text.answers.math_in_text import QUALIFIED, find_formulas, math_spans, result_of
from mig_jax.text.answers.quantities import parse_number, parse_number_answer
from mig_jax.text.answers.read_words import MARKED, bare_line, words_after_lead
from mig_jax.text.answers.values import MAX_SEARCHED, Value, find_numbers

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
_CODE = re.compile(r"__|\w\(['\"]|\blambda\b|\bfor \w+ in\b|^(?:import|def) ", re.MULTILINE)
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z])")
_JOINING_WORDS = {"and", "or", "to", "half", "quarter"}


def read_number(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers."""
    for passage in find_passages(text):
        if number := _number_after_lead(passage):
            return number
    tail, line = text[-MAX_SEARCHED:], bare_line(text)
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
    if clause[:1] + clause[-1:] == "[]" and "," not in clause:
        clause = clause[1:-1]
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


def read_float(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, in a form that Python's `float` reads."""
    number = read_share(text, choices)
    return number and number.removesuffix("%")


def read_share(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, in a form that `float` reads except for a percent sign (ChartQA)."""
    answer = read_number(text, choices)
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


def read_chart_answer(text: str, choices: Sequence[str]) -> str | None:
    """Return the number that a text answers, or else the words after a lead, or a short reply of one line."""
    for passage in find_passages(text):
        if not passage.must_begin and not find_numbers(passage.text):
            return words_after_lead(passage) or None
    return read_share(text, choices) or _bare_name(text)


def _bare_name(text: str) -> str | None:
    """Return a reply that is one word, or a few words that begin with capitals."""
    words = unquoted(text.strip()).split()
    is_name = len(words) == 1 or (0 < len(words) <= 4 and all(word[:1].isupper() for word in words))
    return " ".join(words) if is_name and not LEAD.search(text) else None


def read_formula(text: str, choices: Sequence[str]) -> str | None:
    """Return the formula that a text answers."""
    line = bare_line(text)
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
    marked = MARKED.match(passage.text) or _DOLLARS.match(passage.text)
    for text in (marked[marked.lastgroup or 0].strip() if marked else "", clause):
        if QUALIFIED.fullmatch(text.rstrip(".")):
            return text.rstrip(".")
    if (
        marked
        and marked.re is _DOLLARS
        and not any(
            formula.text in marked["content"] or marked["content"].strip() in formula.text for formula in formulas
        )
    ):
        return marked["content"]
    if formulas and not body[: formulas[0].start].strip(" $([*"):
        return formulas[0].text
    if passage.must_begin:
        return None
    bold = [part for part in bold_in(passage.text) if _is_formula(part)]
    sentence = first_sentence(body)
    last = concluding(sentence, [found for found in find_formulas(sentence) if not _NAME.fullmatch(found.text)])
    return bold[0] if bold else last.text if last else words_after_lead(passage)


def _is_formula(text: str) -> bool:
    """Return whether a text is one formula, without words and not the number of a list item."""
    values = find_formulas(text)
    is_whole = len(values) == 1 and not re.search(r"\w", text[: values[0].start] + text[values[0].end :])
    return is_whole and not text.endswith((".", ":"))


def is_number(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is one number, or has no words, so that it is no sentence."""
    before_equals = content.rpartition("=")[0]
    return not _has_words(content) or parse_number_answer(content) is not None and not _has_words(before_equals)


def _has_words(text: str) -> bool:
    """Return whether a text has words, other than those between numbers such as "3 to 4" and "3 and a half"."""
    words = {word.lower() for word in _WORD.findall(text)}
    return not words <= _JOINING_WORDS or re.search("[一-鿿]", text) is not None


def is_float(content: str, choices: Sequence[str]) -> bool:
    """Return whether Python's `float` reads a content."""
    return parse_share(content) is not None


def is_chart_answer(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is a number or words, but no sentence with a number and no number with a unit."""
    number = parse_number(content.removeprefix("$").replace(r"\%", "%"))
    return parse_share(content) is not None or not (number or _is_sentence(content))


def is_math(content: str, choices: Sequence[str]) -> bool:
    """Return whether a content is mathematics or words, but no sentence."""
    return not _is_sentence(content)


def _is_sentence(content: str) -> bool:
    r"""Return whether a content has a lead, or a verb beside words or mathematics, outside \text{…}."""
    outside = re.sub(r"\\(?:text|mathrm|mbox) ?\{[^{}]*\}", " ", content)
    return bool(LEAD.search(outside) or (VERB.search(outside) and len(_WORD.findall(outside)) >= 2)) or (
        re.search("[一-鿿]", outside) is not None and VERB.search(outside) is not None
    )
