"""Parsing and comparison of numbers as people write them, with their units."""

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from mig_jax.text.answers.conversions import conversion_factor
from mig_jax.text.answers.normalize import TEXT_COMMAND, normalize, strip_lead_in

# Longest text that is parsed as a number, its unit included.
MAX_CHARACTERS = 100

_DECIMAL = r"(?=\.?[0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]*)(?:\.[0-9]+)?(?![0-9])"
_NUMBER = re.compile(
    r"(?P<sign>[+-]?) ?(?:"
    rf"(?:(?P<mantissa>{_DECIMAL}) ?(?:\\times|\\cdot|\*|x) ?)?10 ?\^ ?\{{?(?P<ten>[+-]?[0-9]{{1,3}})\}}?(?![0-9])"
    r"|(?:(?P<ones>[0-9]+) ?)?\\frac ?(?:\{(?P<top>-?[0-9]+)\}|(?P<top_digit>[0-9]))"
    r" ?(?:\{(?P<bottom>[0-9]+)\}|(?P<bottom_digit>[0-9]))"
    r"|(?:(?P<whole>[0-9]+) )?(?P<over>[0-9]+) ?/ ?(?P<under>[0-9]+)"
    r"|(?P<fixed>[0-9]*\.[0-9]*)\\overline ?\{(?P<repeated>[0-9]+)\}"
    rf"|(?P<digits>{_DECIMAL})(?P<exponent>(?:[eE][+-]?[0-9]{{1,3}}(?![0-9]))?))"
)
_NEGATIVE = re.compile(r"\A(?:(?i:negative|minus) +|负)(?=[0-9.$\\])")
_ABOUT = re.compile(r"\A(?:~|(?i:about|approximately|approx\.?|around|roughly) |大?约为?) *")
_MONEY = re.compile(
    r"(?P<sign>[+-]?) ?(?:US ?)?(?P<money>USD|EUR|GBP|INR|JPY|CNY|RMB|Rs\.?|[€£¥₹₩])\.? ?(?=[0-9.+\\-])"
)

# Alternative notations of units, and what they are rewritten to.
_UNIT_REWRITES = tuple(
    (re.compile(pattern), unit)
    for pattern, unit in (
        (TEXT_COMMAND + r" ?\{([^{}]*)\}", r" \1 "),
        (r"\\frac ?\{([^{}]+)\} ?\{([^{}]+)\}", r" \1 / \2 "),
        (r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree", "°"),
        (r"(?:°|\bdegrees?) *[Cc](?:elsius)?\b|摄氏度|℃", "°C"),
        (r"(?:°|\bdegrees?) *[Ff](?:ahrenheit)?\b|华氏度|℉", "°F"),
        (r"\b([A-Za-z]+) squared\b", r"square \1"),
        (r"\b([A-Za-z]+) cubed\b", r"cubic \1"),
        (r"\bper cent\b", "percent"),
        (r"\bmph\b", "mi/h"),
        (r"\bk(?:m|p|mp)h\b", "km/h"),
        (r"\ban? (?=[A-Za-z]{2})", "per "),
        (r"\\cdot|\\times", " "),
        (r"平方", " square "),
        (r"立方", " cubic "),
        (r"每", " per "),
        (r"(百万|千万|万亿|百|千(?![米克瓦])|万|亿)", r" \1 "),
        (r"\\Omega", "Ω"),
        (r"\\mu ?", "µ"),
    )
)
_UNIT_PART = re.compile(
    r"(?P<word>[°µ]?[A-Za-z]+(?:[-'.][A-Za-z]+)*|[%€£¥¢₹₩°Ω]|[\u3400-\u9fff]+|[\uac00-\ud7af]+)\.?"
    r"(?:(?: ?\^ ?)?\{?(?P<power>-?[1-9])\}?)?|(?P<sign>[^ ])"
)
# Known units by their names, without the plural s. Any other word (apples) is a unit that conflicts with none.
_UNITS = {
    name: unit
    for unit, names in {
        "km": "kilometer kilometre kms 千米 公里", "m": "meter metre mtr 米", "dm": "decimeter decimetre 分米",
        "cm": "centimeter centimetre cms 厘米", "mm": "millimeter millimetre 毫米", "µm": "micron micrometer",
        "nm": "nanometer nanometre", "mi": "mile", "yd": "yard", "ft": "foot feet 英尺", "inch": "inches in 英寸",
        "year": "yr 年", "month": "mo 个月 月", "week": "wk 周 星期", "day": "天 日",
        "h": "hour hr 小时", "min": "minute 分钟", "分": "", "s": "second sec 秒 秒钟", "ms": "millisecond 毫秒",
        "am": "a.m", "pm": "p.m",
        "t": "ton tonne 吨", "kg": "kilogram kilo kgs 千克 公斤", "g": "gram gm gms 克", "mg": "milligram 毫克",
        "lb": "", "oz": "ounce", "斤": "",
        "L": "l liter litre 升", "mL": "ml milliliter millilitre cc 毫升", "gal": "gallon",
        "qt": "quart", "pt": "pint", "cup": "", "tbsp": "tablespoon", "tsp": "teaspoon",
        "$": "USD usd dollar buck 美元", "¢": "cent 美分", "€": "EUR eur euro 欧元", "£": "GBP gbp 英镑",
        "JPY": "jpy yen 円 日元", "CNY": "cny RMB rmb yuan 元 块 块钱 人民币", "¥": "", "角": "",
        "₹": "INR inr Rs rs rupee 卢比", "KRW": "₩ 원 won 韩元",
        "pound": "", "penny": "pence p",
        "%": "percent percentage pct 百分", "°": "degree deg 度", "°C": "C celsius", "°F": "F fahrenheit",
        "rad": "radian 弧度", "N": "newton 牛 牛顿", "J": "joule 焦 焦耳", "kJ": "kilojoule", "W": "watt 瓦",
        "kW": "kilowatt", "V": "volt 伏", "A": "amp ampere 安", "Ω": "ohm 欧 欧姆", "K": "kelvin",
        "Hz": "hz hertz 赫兹", "Pa": "pascal 帕", "kPa": "", "atm": "atmosphere",
        "mol": "mole 摩尔", "cal": "calorie 卡", "kcal": "", "eV": "", "byte": "bytes", "bit": "bits",
        "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte",
    }.items()
    for name in (unit, *names.split())
}  # fmt: skip
# Units that may be any of several.
_AMBIGUOUS = {"pound": {"lb", "£"}, "分": {"min", "CNY"}, "¥": {"JPY", "CNY"}, "°": {"°C", "°F"}}
_SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "百": 100, "千": 10**3, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8, "万亿": 10**12,
}  # fmt: skip
# Letters that follow the digits of a number directly, or an amount of money.
_SCALE_LETTERS = {"k": 10**3, "K": 10**3}
_MONEY_LETTERS = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6, "mn": 10**6, "b": 10**9, "B": 10**9, "bn": 10**9}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_PER = {"/", "per"}
# Words after which a text is not one number with a unit.
_NO_UNIT = set(
    "or and not plus minus times divided to by but half base if when for zero than squared cubed factorial root halves "
    "third thirds fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths "
    "hundredth hundredths thousandth thousandths millionth millionths st nd rd th wrong incorrect".split()
)
_NO_UNIT_SIGNS = "或和与至到又半点之乘除加减等不无是折成"
_VOCABULARY = {*_UNITS, *_SCALES, *_POWERS, *_PER, *_NO_UNIT}
# Words that are no units but say in which sense a number is meant; those of one group differ.
_SENSES = {
    word: (number, word)
    for number, group in enumerate(
        (
            "north south east west northeast northwest southeast southwest 北 南 东 西",
            "left right 左 右",
            "up down upward downward upwards downwards 上 下",
            "above below 零上 零下",
            "clockwise counterclockwise counter-clockwise anticlockwise 顺时针 逆时针",
            "BC AD BCE CE 公元前 公元",
            "gain loss profit deficit surplus increase decrease 增加 减少 盈利 亏损",
            "red blue green yellow black white orange purple brown pink gray grey 红 蓝 绿 黄 黑 白",
            "boy girl man woman male female 男 女 男生 女生",
        )
    )
    for word in group.split()
}
# Letters that are variables more often than units, where no unit is expected.
_VARIABLE_LETTERS = frozenset("tahlCFpx")


class Number(NamedTuple):
    """A number as written: 50% is (50, "%", ""), 5 km/h is (5, "h^-1 km", "").

    value: exact.
    unit: the known parts of its unit, sorted; "" if there is no unit or it is unknown.
    words: the other words after it, in lower case, without a plural s.
    """

    value: Fraction
    unit: str
    words: str = ""

    @property
    def is_percent(self) -> bool:
        return self.unit == "%"


def parse_number_answer(answer: str) -> Number | None:
    """Return the number that an answer is, or that follows its last equals sign; None if it is not exactly one number.

    Unevaluated expressions are not numbers, except fractions and powers of ten.
    """
    text = normalize_money(strip_lead_in(answer)).replace(r"\approx", "=")
    return parse_number(text.rpartition("=")[2].strip(), letters="all")


def normalize_money(answer: str) -> str:
    r"""Return an answer in one notation, see `normalize`, with USD for a dollar sign that is a currency."""
    text = strip_lead_in(answer)
    text = _NEGATIVE.sub("-", text)
    # Two dollar signs delimit LaTeX, a single one is a currency.
    text = text.replace(r"\$", " USD ").replace(r"\textdollar", " USD ")
    return normalize(text.replace("$", " USD ") if text.count("$") == 1 else text)


def parse_number(text: str, *, letters: str = "spaced") -> Number | None:
    r"""Return the exact number of a normalized text, with its unit; None if it is not one number.

    It may be an integer, decimal, fraction, mixed number or power of ten.

    Args:
      text: what to parse.
      letters: which letters after the number are units rather than factors: "all" known units, as in 5m; "spaced" ones
        that a blank or \text separates from the digits, except letters that are more often variables.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    if text.startswith("(") and text.endswith(")") and "," not in text:
        text = text[1:-1].strip()
    text = _ABOUT.sub("", text)
    money = _MONEY.match(text)
    if money:
        text = money["sign"] + text[money.end() :]
    number = _NUMBER.match(text)
    value = number and _value_of(number)
    unit = number and _parse_unit(text[number.end() :], money["money"].rstrip(".") if money else "", letters)
    return None if value is None or unit is None else Number(value * unit.scale, unit.unit, unit.words)


def is_same_number(one: Number, other: Number) -> bool:
    """Return whether two numbers are exactly equal; different known units are converted, or else differ.

    If only one of the two is a percentage, 50% equals both 50 and 0.5.
    """
    if _differ_in_sense(one.words, other.words):
        return False
    if not are_compatible_units(one.unit, other.unit):
        factor = conversion_factor(one.unit, other.unit)
        return factor is not None and one.value * factor == other.value
    if one.is_percent == other.is_percent:
        return one.value == other.value
    percent, plain = (one, other) if one.is_percent else (other, one)
    return plain.value in (percent.value, percent.value / 100)


def are_compatible_units(one: str, other: str) -> bool:
    """Return whether two units may be the same: equal, unknown, or both pounds, whether of weight or of money."""
    if not one or not other or one == other:
        return True
    parts, others = one.split(), other.split()
    return len(parts) == len(others) and all(
        part == other or other in _AMBIGUOUS.get(part, ()) or part in _AMBIGUOUS.get(other, ())
        for part, other in zip(parts, others, strict=True)
    )


def parse_unit(text: str) -> tuple[str, str] | None:
    r"""Return the unit that a text is, such as \text{ cm}^2 or square feet, and its other words; None if it is none."""
    unit = _parse_unit(f" {text}", "", "all") if len(text) <= MAX_CHARACTERS else None
    return None if unit is None or unit.scale != 1 else (unit.unit, unit.words)


def is_known_unit(text: str) -> bool:
    """Return whether a text is made of known units only."""
    unit = parse_unit(text)
    return unit is not None and (unit[0] != "" and not unit[1] or unit[1] in ("unit", "units"))


def _differ_in_sense(*texts: str) -> bool:
    """Return whether two texts say opposite things, such as north and south."""
    one, other = ({_SENSES[word][0]: word for word in text.split() if word in _SENSES} for text in texts)
    return any(one[group] != other[group] for group in one.keys() & other.keys())


def _value_of(number: re.Match) -> Fraction | None:
    """Return the value of a match of `_NUMBER`; None if it divides by 0."""
    parts = number.groupdict("")
    under = parts["under"] or parts["bottom"] or parts["bottom_digit"]
    if parts["ten"]:
        value = _decimal(parts["mantissa"] or "1") * Fraction(10) ** int(parts["ten"])
    elif under:
        if int(under) == 0:
            return None
        over = parts["over"] or parts["top"] or parts["top_digit"]
        value = int(parts["whole"] or parts["ones"] or 0) + Fraction(int(over), int(under))
    elif repeated := parts["repeated"]:
        places = len(parts["fixed"].partition(".")[2])
        value = _decimal("0" + parts["fixed"]) + Fraction(int(repeated), 10**places * (10 ** len(repeated) - 1))
    else:
        value = _decimal(parts["digits"] + parts["exponent"])
    return -value if parts["sign"] == "-" else value


def _decimal(digits: str) -> Fraction:
    """Return the value of decimal digits, which may have thousands separators."""
    return Fraction(digits.replace(",", "").replace(" ", ""))


class _Unit(NamedTuple):
    scale: int
    unit: str
    words: str


def _parse_unit(text: str, money: str, letters: str) -> _Unit | None:
    """Parse the text after a number.

    Args:
      text: what follows the digits.
      money: currency written before the digits, or "".
      letters: see `parse_number`.

    Returns:
      The factor of the number (10^6 for "million"), its unit and other words; None if the text is not a unit.
    """
    is_attached = text[:1].isascii() and text[:1].isalpha()
    is_variable = letters == "spaced" and text.strip() in _VARIABLE_LETTERS
    for pattern, unit in _UNIT_REWRITES:
        text = pattern.sub(unit, text)
    if is_attached and letters == "spaced":
        return None
    scale_letters = _MONEY_LETTERS if money else _SCALE_LETTERS if letters == "all" and is_attached else {}
    if text.strip(" .") in scale_letters:
        return _Unit(scale_letters[text.strip(" .")], _UNITS.get(money, ""), "")
    scale, power, sign, powers, words = 1, 1, 1, Counter(), []
    for part in _UNIT_PART.finditer(text):
        word = _known_form(part["word"] or part["sign"])
        if word in _UNITS and not is_variable:
            powers[_UNITS[word]] += sign * power * int(part["power"] or 1)
            power = 1
        elif word in _SCALES and not powers and not words:
            scale *= _SCALES[word]
        elif word in _POWERS:
            power = _POWERS[word]
        elif word in _PER:
            sign = -1
        elif _is_chinese(word):
            if any(character in _NO_UNIT_SIGNS for character in word):
                return None
            words.append(word)
        elif word in _NO_UNIT or len(word) == 1 or is_attached and part.start() == 0:
            # Letters that directly follow the digits are factors: 2xy.
            return None
        else:
            words.append(word.lower() if word.isupper() is False else word)
    if money:
        powers[_UNITS[money]] = 1
    unit = " ".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()))
    return _Unit(scale, unit, " ".join(words))


def _known_form(word: str) -> str:
    """Return the form of a word that is in the vocabulary, or the word itself."""
    if len(word) == 1:
        return word
    if _is_chinese(word):
        return _known_chinese_form(word)
    singular = word.lower().removesuffix("s")
    forms = (word, word.lower(), singular, word.lower().removesuffix("es"))
    return next((form for form in forms if form in _VOCABULARY or form in _SENSES), word)


def _known_chinese_form(word: str) -> str:
    """Return a known unit without what is counted after it: 个月 for 个月的时间; or the word itself."""
    for end in (len(word), *range(min(3, len(word) - 1), 1, -1)):
        if word[:end] in _UNITS or word[:end] in _SCALES:
            return word[:end]
    return word


def _is_chinese(word: str) -> bool:
    return word[0] >= "\u3400"
