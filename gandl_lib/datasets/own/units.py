"""Concentrations as people write them: `10`, `0,5`, `10 nM`, `5 µmol/L`, `1 000`; in micromoles per litre."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

UNITS = {"M": 6, "mM": 3, "uM": 0, "µM": 0, "μM": 0, "nM": -3, "pM": -6}
"""Powers of ten of a micromole per litre. Two of these are the micro sign and the Greek letter."""
UNIT_ALIASES = {"um": "uM", "UM": "uM", "nm": "nM", "NM": "nM", "pm": "pM", "PM": "pM", "mm": "mM",
                "micromolar": "uM", "nanomolar": "nM", "picomolar": "pM", "millimolar": "mM", "molar": "M"}  # fmt: skip
_PER_LITRE = re.compile(r"([munpµμ]?)mol(?:es?)?\s*(?:/\s*[lL](?:iter|itre)?|\s*[lL]\s*(?:\^?-1|⁻¹))")

_IN_NAME = re.compile(r"(?:^|[\W_])([pnuµμm]M)(?=$|[\W_])")

MISSING = ("", "na", "n/a", "nan", "none", "null", "-", "–")
AMOUNT = re.compile(r"([+-]?[\d.,]*\d[.,]?(?:[eE][+-]?\d{1,4})?)\s*(\D.*)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_GROUPED = re.compile(r"([+-]?[1-9]\d{0,2}(?:[ '’\u00a0\u202f\u2009]\d{3})+)(?![\d])")
"""Thousands apart by a space or an apostrophe, which is no decimal sign anywhere."""
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}(?:\1\d{3})*")
"""A thousand and more, or a number with three digits behind the sign."""


def unit_of(text: Any) -> str | None:
    """The unit that `text` means, one of `UNITS`; None where it is not molar."""
    text = str(text).strip()
    if text in UNITS:
        return text
    if found := _PER_LITRE.fullmatch(text):
        prefix = found[1]
        return "M" if not prefix else f"{'u' if prefix in 'µμ' else prefix}M"
    return UNIT_ALIASES.get(text) or UNIT_ALIASES.get(text.lower() if len(text) > 2 else "")


def unit_in(column: str) -> str | None:
    """The unit that a column's name ends in or has in brackets, as in `Conc_nM` or `Dose [µM]`; None where it has none.

    `mmoles_per_liter` is none: tables with such a column are known to hold micromoles.
    """
    found = _IN_NAME.search(column)
    return found[1].replace("µ", "u").replace("μ", "u") if found else None


def decimal_of(amounts: pd.Series, path: Path, description: Path) -> tuple[str, str]:
    """How a column writes its decimals: `"."` or `","`, and why a row with the other sign is not read, or "".

    Where both signs stand for decimals, the commoner one is taken; `concentration` then refuses rows with the other,
    and rows that could be either.

    Raises:
        ValueError: what is written can be read in two ways, and no row tells which.
    """
    mantissas = amounts.map(_ungrouped).str.extract(r"^([+-]?[\d.,]+)")[0].dropna()
    commas = mantissas[mantissas.str.contains(",", regex=False)]
    if commas.empty or commas.str.contains(r",.*\.").any():
        return ".", ""
    if commas.str.fullmatch(THOUSANDS).all():
        raise ValueError(
            f"{path}: is {commas.iloc[0]!r} a thousand and more, or a number with a decimal comma? Say so in "
            f'{description.name}: [concentration] decimal = "," (or ".").'
        )
    decimal_commas = mantissas[mantissas.str.count(",").eq(1) & ~mantissas.map(_could_be_thousands)]
    decimal_points = mantissas[mantissas.str.fullmatch(r"[+-]?\d*\.\d*") & ~mantissas.map(_could_be_thousands)]
    if decimal_points.empty:
        return ",", ""
    if len(decimal_points) == len(decimal_commas):
        raise ValueError(
            f"{path}: decimals are written with a point ({decimal_points.iloc[0]!r}) and with a comma "
            f"({decimal_commas.iloc[0]!r}); write them in one way, or say which it is in {description.name}: "
            '[concentration] decimal = "," (or ".").'
        )
    sign = "." if len(decimal_points) > len(decimal_commas) else ","
    some = decimal_commas if sign == "." else decimal_points
    return sign, (
        f"most decimals of this column are written with a {'point' if sign == '.' else 'comma'}, "
        f"{len(some)} otherwise ({some.iloc[0]!r}); write them in one way"
    )


def concentration(text: str, unit: str, decimal: str, mixed: str = "") -> float | str:
    """Micromolar, or what is wrong with it.

    Args:
        unit: of the column; one behind the number goes before.
        decimal: `"."` or `","`.
        mixed: from `decimal_of`: why a number written otherwise, or one that could be either, is not read.
    """
    found = AMOUNT.fullmatch(_ungrouped(text))
    if not found:
        return "the concentration is no number"
    number, own = found[1], (found[2] or "").strip()
    known = unit_of(own or unit)
    if known is None:
        return f"the concentration has the unit {own or unit!r}, which is not molar"
    mantissa = number.lower().partition("e")[0]
    other = "," if decimal == "." else "."
    if mixed and (other in mantissa or _could_be_thousands(mantissa)):
        return f"the concentration can be read in two ways, for {mixed}"
    if decimal == ",":
        number = number.replace(".", "").replace(",", ".") if re.search(r"\..*,", number) else (
            number.replace(",", ".") if "." not in number else "?")  # fmt: skip
    elif "," in number:
        number = number.replace(",", "") if THOUSANDS.fullmatch(mantissa) else "?"
    if number == "?":
        return f"the concentration is no number with a decimal {'point' if decimal == '.' else 'comma'}"
    try:
        value = float(Decimal(number).scaleb(UNITS[known]))
    except (ArithmeticError, ValueError):
        return "the concentration is no number"
    if not np.isfinite(value):
        return "the concentration is no number"
    return value if value > 0 else "a concentration must be above 0 (an untreated well is a control or has no compound)"


def _could_be_thousands(mantissa: str) -> bool:
    return bool(_EITHER.fullmatch(mantissa))


def _ungrouped(text: str) -> str:
    found = _GROUPED.match(text)
    return re.sub(r"\D", "", found[1][1:]).join([found[1][0], text[found.end() :]]) if found else text
