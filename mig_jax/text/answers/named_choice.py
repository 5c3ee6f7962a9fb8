"""Find the choice that a text names, by its letter, its text or its number: "I choose B", "It's blue, not red"."""

import re
from collections.abc import Container, Iterable, Sequence
from string import ascii_uppercase

from mig_jax.text.answers.choices import is_same_choice
from mig_jax.text.answers.leads import (
    MAX_PASSAGE,
    Passage,
    bold_in,
    find_passages,
    first_sentence,
    without_fillers,
    without_reason,
)
from mig_jax.text.answers.normalize import normalize
from mig_jax.text.response_format import choices_by_letter

_NOT_WORD = r"(?![A-Za-z0-9_]|['’]\w)"
_LETTER = r"(?:[(\[{][A-Za-z][)\]}]|(?<![\w'\\])[A-Z](?![A-Za-z0-9_'\N{RIGHT SINGLE QUOTATION MARK}]))"
_LETTERS = rf"{_LETTER}(?:\s*(?:,|/|、|or|and|nor|或|和)\s*{_LETTER}){{0,8}}"
_SEVERAL = re.compile(r"\(?[A-Z][.):]?(?:(?:[\s,;/&、]|\b(?:or|and)\b|或|和)+\(?[A-Z][.):]?){1,8}")
# "not A", "can't be A or B", "A is wrong": letters that are mentioned, but not chosen.
_REJECTED_LETTERS = re.compile(
    rf"(?:\b(?i:not|cannot|never|neither|rather than|instead of|unlike|than|reject|eliminate|exclude)|n['’]t|而?不是"
    rf"|不(?:能|应该?|可以?|要|会|该)?选|不会是|而非|排除)\s*(?:be|choose|select|选|选项)?\s*(?:option|choice)?\s*{_LETTERS}"
    rf"|(?:\b(?:option|choice)s?\s+)?{_LETTERS}\s*(?:选?项)?(?:(?:is|are|was|were|seems?|looks?)\s+(?:(?:clearly|also|just)\s+)?"
    r"(?:wrong|incorrect|false|not|n't|a distractor|distractors|too\b|impossible|out\b|invalid)|(?:isn|aren)['’]t"
    r"|是?(?:错误|错|不正确|不对|干扰))"
    # A line that rejects its choice: "A: red is wrong."
    rf"|(?m:^)\W{{0,4}}{_LETTER}[.:)]{{1,2}} (?!because|since|as )[^\n.;:A-Z]{{1,60}}"
    r" (?:is|are|was) (?:wrong|incorrect|false)\b"
)
_JOINING_TEXT = re.compile(r"\\text(?:rm|bf|normal)? ?\{ ?(or|and) ?\}")
# Letters at the end of which none is chosen: "Either A or B."
_UNDECIDED = re.compile(
    rf"{_LETTER}\s*(?:,|/|、|\bor\b|\band\b|或者?|和|还是)\s*(?:option\s|choice\s)?{_LETTER}[.)。?！!？*$]*\s*\Z"
)
_MARKED = r"(?=\s*(?:[.):,，。：、;!*$]|\Z|不|是|为|正确|对|选?项|\s(?:is|because|since|as|would be|must be|seems)\b))"
_SUBJECT = re.compile(
    r"\W{0,12}(?:(?i:so|therefore|thus|hence|then|finally|故|因此|所以)[\s,，]*)?"
    r"(?:(?i:(?:it'?s|it is|this is|that is|i (?:would )?(?:choose|pick|select)|option|choice|answer"
    r"|only|statement)\b"
    r"|选项|选择?)\s*)?"
    r"(?:(?i:option|choice|letter)\s)?[\s*_$:：]{0,8}"
    rf"(?:[(\[](?P<bracketed>[A-Za-z])[)\]]|(?P<bare>[A-Z]){_MARKED})(?P<rest>.*)"
)
_AFTER_LEAD = re.compile(
    r"[\s$\"'`*({\[]{0,8}(?:\\(?:text|textbf|textrm|mathrm|mathbf|bf|rm|boxed)\s?\{?\s?)?"
    rf"(?:[(\[](?P<bracketed>[A-Za-z])[)\]]|(?P<bare>[A-Z]){_NOT_WORD}|(?P<lower>[a-z])(?=[\s.。)*\"'`$}}\]]*\Z))"
)
_ANOTHER = re.compile(
    rf"[\])}}$*.]*\s*(?:,|/|、|\bor\b|\band\b|或|和|&|\s)\s*(?:option\s+|choice\s+)?(?!A [a-z])(?P<letter>{_LETTER})"
)
_BRACKETED = re.compile(r"[(\[]([A-Za-z])[)\]]")
_CAPITAL = re.compile(rf"(?<![\w'\\])(?!A [a-z]|I )([A-Z]){_NOT_WORD}")
_ALONE = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\[(?P<squared>[A-Z])\]"
    r"|\*\*\(?(?P<bold>[A-Z])(?:[.:)][^*\n]{0,200})?\*\*"
    r"|(?<![\w'\N{RIGHT SINGLE QUOTATION MARK}])(?P<last>[A-Z])[.)。]?\Z"
)
# Names an answer in Chinese without a lead: 故选B, 选B.
_CHINESE_CHOSEN = re.compile(
    r"(?<![不可])(?<!不[能应该会要])选(?:择|项)?(?:答案|的?是|为|:|：)?\s*[(（\[]?(?P<letter>[A-Z])(?![A-Za-z])"
)
_NOT = r"(?:\b(?:not|never|rather than|instead of)\s|n['’]t\s|不是|而非)"
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|it's|that's|called|choose|chose|pick|select|looks|seems)\b|是|为|选", re.IGNORECASE
)
_INDEX = re.compile(r"[$\s]*(?:option|choice|第)?\s*(?P<index>[1-9])\s*(?:个|项)?[$\s.]*", re.IGNORECASE)


def read_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice that a text names; None if it names none or several.

    The letter or text right after the last lead that has one ("the answer is B") counts. Else a letter that begins the
    last line or the first line ("B is correct because…"), then the last letter in brackets, in bold, or alone at the
    end. Else the text of a choice: in bold, as the last line, or after a verb ("the ball is green"). Letters and texts
    that are only mentioned ("not A", "B is wrong") do not count.
    """
    letters = set(choices_by_letter(choices)) or set(ascii_uppercase) - {"I"}
    plain = _REJECTED_LETTERS.sub(" ; ", _JOINING_TEXT.sub(r" \1 ", text))
    if _SEVERAL.fullmatch(plain.strip()):
        return None
    for passage in find_passages(plain):
        named = _after_lead(passage, letters, choices)
        if named is not None:
            return named or None
    begins = _first_letter(plain, letters, choices)
    if begins is not None:
        return begins or None
    if _UNDECIDED.search(plain[-MAX_PASSAGE:]):
        return None
    return _chinese_letter(plain, letters) or _last_letter(plain, letters) or _named_text(plain, choices)


def names_one_choice(content: str, choices: Sequence[str]) -> bool:
    """Return whether a text is the name of one choice, by the comparison of choices."""
    return len(_same_choices(content, choices)) == 1


def _same_choices(passage: str, choices: Sequence[str]) -> list[str]:
    """Return the letters of the choices that a passage is, by the comparison of choices."""
    letters = choices_by_letter(choices) or ascii_uppercase
    if len(passage) > MAX_PASSAGE:
        return []
    return [letter for letter in letters if is_same_choice(passage, letter, choices)]


def _unique_choice(passages: Iterable[str], choices: Sequence[str]) -> str | None:
    """Return the letter of the first choice that a passage is, skipping passages that are none or several."""
    found = (_same_choices(passage, choices) for passage in dict.fromkeys(passages) if choices)
    return next((letters[0] for letters in found if len(letters) == 1), None)


def _after_lead(passage: Passage, letters: Container[str], choices: Sequence[str]) -> str | None:
    """Return the letter of the choice that a passage after a lead names; "" if several, None if none."""
    body = without_fillers(passage.text)
    sentence = first_sentence(body)
    found = _AFTER_LEAD.match(body)
    letter = found[found.lastgroup or 0].upper() if found else ""
    if found and _is_text_of_another(body[found.end() :], letter, choices):
        return ""
    # Before the letters, because the A of "The answer is A boat" is not one.
    if named := _unique_choice((passage.text, body, sentence, without_reason(sentence)), choices):
        return named
    if found and letter in letters:
        another = _ANOTHER.match(body, found.end())
        return "" if another and another["letter"].strip("()[]{}").upper() in letters else letter
    if passage.must_begin:
        return None
    if _UNDECIDED.search(sentence):
        return ""
    index = _INDEX.fullmatch(sentence)
    return (
        _unique_choice(bold_in(passage.text)[:1], choices)
        or (_nth_letter(int(index["index"]), choices) if index else None)
        or _only_letter(body, letters)
        or _contained_choice(body, choices)
    )


def _nth_letter(n: int, choices: Sequence[str]) -> str | None:
    """Return the letter of the n-th choice, from 1; None if the choices are numbers themselves."""
    is_index = n <= len(choices) and not any(re.search(r"\d", choice) for choice in choices)
    return [*choices_by_letter(choices)][n - 1] if is_index else None


def _only_letter(passage: str, letters: Container[str]) -> str | None:
    """Return the only letter in brackets of a passage, or else its only capital letter that is no word."""
    for pattern in (_BRACKETED, _CAPITAL):
        found = {match[1].upper() for match in pattern.finditer(passage)}
        found = {letter for letter in found if letter in letters}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _chinese_letter(text: str, letters: Container[str]) -> str | None:
    """Return the last letter that a Chinese text chooses."""
    found = [match["letter"] for match in _CHINESE_CHOSEN.finditer(text)]
    return next((letter for letter in reversed(found) if letter in letters), None)


def _first_letter(text: str, letters: Container[str], choices: Sequence[str]) -> str | None:
    """Return the letter that begins the last or the first line; "" if the text of another choice follows."""
    for line in (text.rstrip().rpartition("\n")[2], text.lstrip().partition("\n")[0]):
        subject = _SUBJECT.match(line[:MAX_PASSAGE])
        letter = (subject["bracketed"] or subject["bare"]).upper() if subject else ""
        if subject and letter in letters:
            rest = _key(subject["rest"].strip(" .):,*\"'”’}"))
            is_another = any(
                rest == _key(text) for other, text in choices_by_letter(choices).items() if other != letter
            )
            return "" if is_another else letter
    return None


def _is_text_of_another(rest: str, letter: str, choices: Sequence[str]) -> bool:
    """Return whether what follows a letter is the text of another choice."""
    rest = _key(rest[:MAX_PASSAGE].strip(" .):,*\"'”’}"))
    return any(rest == _key(text) for other, text in choices_by_letter(choices).items() if other != letter)


def _last_letter(text: str, letters: Container[str]) -> str | None:
    """Return the last letter of a choice in brackets, in bold, or alone at the end."""
    found = [match[match.lastgroup or 0].upper() for match in _ALONE.finditer(text.rstrip())]
    return next((letter for letter in reversed(found) if letter in letters), None)


def _named_text(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice whose text is the last line, the last bold words, or follows a verb."""
    last_line = text.rstrip().rpartition("\n")[2]
    first_clause = re.split(r"[,，.。;:!\n]", text.strip()[:MAX_PASSAGE], maxsplit=1)[0]
    return (
        _unique_choice((last_line, *bold_in(text)[-1:]), choices)
        or _nth_choice(text, choices)
        or (_contained_choice(last_line[-MAX_PASSAGE:], choices) if _COPULA.search(last_line) else None)
        or (_unique_choice([first_clause], choices) if _contained_choice(text[:MAX_PASSAGE], choices) else None)
    )


def _nth_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice whose number is the whole text."""
    index = _INDEX.fullmatch(text.strip())
    return _nth_letter(int(index["index"]), choices) if index else None


def _contained_choice(passage: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the only choice whose text occurs in a passage and is not rejected there."""
    texts = {letter: re.escape(_key(choice)) for letter, choice in choices_by_letter(choices).items() if _key(choice)}
    if not texts:
        return None
    words = re.sub(rf"{_NOT}\s*(?:be )?(?:an? |the )?(?:{'|'.join(texts.values())})", ";", _key(passage))
    found = {letter: text for letter, text in texts.items() if re.search(text.join(_edges(text)), words)}
    # "a red ball" names "red ball", not "ball".
    longest = [
        letter
        for letter, text in found.items()
        if not any(text in other and letter != key for key, other in found.items())
    ]
    return longest[0] if len(longest) == 1 else None


def _edges(text: str) -> tuple[str, str]:
    """Return patterns for what is beside the text of a choice; beside mathematics, no operator and no "or"."""
    if re.search("[0-9<>=]", text):
        return (
            r"(?<![a-z0-9.])(?<![-+*/^<>])(?<![-+*/^<>] )",
            r"(?![a-z0-9]|\.[0-9]|\s*(?:or\b|and [a-z] ?[<>=]|[-+*/^=<>:]))",
        )
    return r"(?<![a-z0-9])", r"(?![a-z0-9])"


def _key(text: str) -> str:
    """Return the form of a text in which choices are looked for."""
    return normalize(text).casefold()
