"""Exact conversion of units: 1 h is 60 min, 1 m^2 is 10000 cm^2. Money, temperatures and angles are not converted."""

import functools
from collections import Counter
from fractions import Fraction

# Units by what they measure, with their sizes; those of one row are multiples of each other.
_LITER, _INCH, _POUND = Fraction(1, 1000), Fraction(254, 10_000), Fraction(45_359_237, 100_000_000)
_GALLON = 231 * _INCH**3
_SIZES: dict[str, tuple[str, int, Fraction]] = {
    unit: (measure, power, Fraction(size))
    for measure, power, sizes in (
        ("length", 1, {"km": 1000, "m": 1, "dm": "1/10", "cm": "1/100", "mm": "1/1000", "µm": "1/1000000",
                       "nm": "1/1000000000"}),
        ("length", 1, {"inch": _INCH, "ft": 12 * _INCH, "yd": 36 * _INCH, "mi": 63_360 * _INCH}),
        ("length", 3, {"L": _LITER, "mL": _LITER / 1000, "gal": _GALLON, "qt": _GALLON / 4, "pt": _GALLON / 8,
                       "cup": _GALLON / 16, "tbsp": _GALLON / 256, "tsp": _GALLON / 768}),
        ("time", 1, {"week": 604_800, "day": 86_400, "h": 3600, "min": 60, "s": 1, "ms": "1/1000"}),
        ("months", 1, {"year": 12, "month": 1}),
        ("mass", 1, {"t": 1000, "kg": 1, "g": "1/1000", "mg": "1/1000000", "斤": "1/2"}),
        ("mass", 1, {"lb": _POUND, "pound": _POUND, "oz": _POUND / 16}),
        ("energy", 1, {"kJ": 1000, "J": 1}),
        ("heat", 1, {"kcal": 1000, "cal": 1}),
        ("power", 1, {"kW": 1000, "W": 1}),
        ("pressure", 1, {"kPa": 1000, "Pa": 1}),
    )
    for unit, size in sizes.items()
}  # fmt: skip


def conversion_factor(unit: str, into: str) -> Fraction | None:
    """Return by what to multiply a number with one unit to have it in another; None if they measure different things.

    Args:
      unit, into: as in `quantities.Number`, such as "h^-1 km".
    """
    (measures, size), (wanted, wanted_size) = _measures(unit), _measures(into)
    return size / wanted_size if measures and measures == wanted else None


@functools.lru_cache(maxsize=1024)
def _measures(unit: str) -> tuple[dict[str, int], Fraction]:
    """Return what a unit measures, with exponents, and its size; {} for a part that cannot be converted."""
    measures: Counter[str] = Counter()
    total = Fraction(1)
    for part in unit.split():
        name, _, exponent = part.partition("^")
        if name not in _SIZES or abs(power := int(exponent or 1)) > 9:
            return {}, total
        measure, dimension, size = _SIZES[name]
        measures[measure] += dimension * power
        total *= size**power
    return {measure: power for measure, power in measures.items() if power}, total
