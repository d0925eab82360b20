"""The wells table: one row per site, checked once, at the door.

Every stage after the loaders receives this table (or an AnnData whose `obs` is this table) and trusts it. Column names
are the field's own, with units where there are any:

=================  =======  =============================================================================
column             type     meaning
=================  =======  =============================================================================
site_id            str      unique, `<experiment>_<plate>_<well>_<site>`
well_id            str      `<experiment>_<plate>_<well>`
plate_id           str      `<experiment>_<plate>`; plates are numbered anew in every experiment
cell_type          str      HRCE, VERO, HUVEC, ...
experiment         str      one batch of plates, e.g. `HRCE-1`
plate              int      number within the experiment, from 1
well               str      row letters and two-digit column, e.g. `AA02`
site               int      field of view within the well, from 1
condition          str      what was done to the cells first, as the screen words it; `""` if nothing is known
compound           str      what was added; `""` for none
concentration_uM   float    its concentration in micromolar; NaN where there is no dose (controls, siRNA)
role               str      one of `ROLES`
=================  =======  =============================================================================

More columns may follow; they travel along untouched.
"""

from __future__ import annotations

import re
import warnings
from decimal import Decimal
from functools import reduce

import numpy as np
import pandas as pd
import pandera.pandas as pa

ROLES = ("C+", "C-", "UV", "treated", "untreated", "blank")
"""C+: uninfected (the state to reach). C-: infected, no compound. UV: given inactivated virus. treated: infected and
given a compound. untreated: nothing done, in screens without infection. blank: no cells or unknown."""

SCHEMA = pa.DataFrameSchema(
    {
        "site_id": pa.Column(str, unique=True),
        "well_id": pa.Column(str),
        "plate_id": pa.Column(str),
        "cell_type": pa.Column(str),
        "experiment": pa.Column(str),
        "plate": pa.Column(int, pa.Check.ge(1)),
        "well": pa.Column(str, pa.Check.str_matches(r"^[A-Z]{1,2}\d{2}$")),
        "site": pa.Column(int, pa.Check.ge(1)),
        "condition": pa.Column(str),
        "compound": pa.Column(str),
        "concentration_uM": pa.Column(float, pa.Check.gt(0), nullable=True),
        "role": pa.Column(str, pa.Check.isin(ROLES)),
    },
    index=pa.Index(int),
    strict=False,
    coerce=False,
)

COLUMNS = tuple(SCHEMA.columns)

ALIKE = 1.02
"""Doses no further apart than this factor are one: no pipette and no text tells them apart."""
ROUNDED = 1.05
"""As far apart may a dose and itself rounded to two digits be (1.049 and 1.0)."""


def validate(wells: pd.DataFrame, source: str = "wells") -> pd.DataFrame:
    """Return `wells` unchanged if it satisfies the schema and its cross-column rules.

    Args:
        wells: table as described in this module's docstring, with a RangeIndex.
        source: where the table came from, for the error message.

    Raises:
        ValueError: naming every rule broken, with the first offending values.
    """
    missing = [c for c in COLUMNS if c not in wells.columns]
    if missing:
        raise ValueError(
            f"{source}: the wells table lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(map(str, wells.columns))}."
        )
    try:
        SCHEMA.validate(wells, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise ValueError(f"{source}: {_explain(error.failure_cases)}") from None

    def require(bad: pd.Series, rule: str) -> None:
        if bad.any():
            rows = wells.loc[bad, "site_id"]
            raise ValueError(f"{source}: {rule}; broken by {len(rows)} site(s), first {', '.join(rows.head(3))}.")

    require(wells["compound"].eq("") & wells["concentration_uM"].notna(), "a concentration_uM needs a compound")
    per_well = wells.groupby("well_id")[["plate_id", "condition", "compound", "concentration_uM", "role"]].nunique(
        dropna=False
    )
    torn = per_well.index[(per_well > 1).any(axis=1)]
    require(wells["well_id"].isin(torn), "all sites of a well share plate, condition, compound, concentration and role")
    return wells


# ---- names of wells ----

_WRITTEN = re.compile(r"([A-Za-z]{1,2})[-_ ]?0*(\d{1,2})|[rR]0*(\d{1,2})[-_ ]?[cC]0*(\d{1,2})")


def name(text: str) -> str:
    """`A01` from the many ways in which people write it (`a1`, `A-01`, `r01c01`); empty where it is no well."""
    found = _WRITTEN.fullmatch(text)
    if not found:
        return ""
    row = found[1].upper() if found[1] else letters(int(found[3]) - 1)
    column = int(found[2] or found[4])
    return f"{row}{column:02d}" if row and column >= 1 else ""


def place(well: str) -> tuple[int, int]:
    """Row and column of a well, from 0: `A01` is (0, 0), `AA02` is (26, 1)."""
    row = well.rstrip("0123456789")
    return reduce(lambda n, letter: 26 * n + ord(letter) - 64, row, 0) - 1, int(well[len(row) :]) - 1


def letters(row: int) -> str:
    """The name of a row, counted from 0: 0 is `A`, 26 is `AA`; empty below 0. With `place` it goes round."""
    return "" if row < 0 else letters(row // 26 - 1) + chr(65 + row % 26)


def _explain(failures: pd.DataFrame) -> str:
    """One line a broken rule: which column, which check, how many rows, the first values found."""
    lines = []
    for (column, check), cases in failures.groupby(["column", "check"], dropna=False, sort=False):
        found = ", ".join(repr(v) for v in cases["failure_case"].head(3))
        lines.append(f"column {column!r} must satisfy {check}: {len(cases)} value(s) do not, first {found}")
    return "; ".join(lines) + "."


# ---- doses ----


def merge_doses(wells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make one of the doses of a compound that differ only in how they were rounded (3.3333333, 3.3333, 3.33).

    Two doses of a compound are one where they lie within the factor `ALIKE`, or within `ROUNDED` and one may be the
    other written with fewer digits (0.1235 and 0.12); never where a plate has both, for whoever pipetted them there
    meant two. From the lowest dose on, each joins the one before if it is alike to all that have joined so far. The one
    written with most digits stands for all.

    Args:
        wells: any table with compound, concentration_uM and plate_id, a row a site or well.

    Returns:
        The table with the doses made one (the same object where there are none to merge), and a table `compound,
        concentration_uM, written`: each dose that was written in several ways, and the ways as text.
    """
    written = wells[["compound", "concentration_uM", "plate_id"]].drop_duplicates()
    written = written[written["concentration_uM"].notna()]
    rows: list[tuple[str, float, str]] = []
    meant: dict[tuple[str, float], float] = {}
    for compound, one in written.groupby("compound", sort=True, observed=True):
        plates = one.groupby("concentration_uM")["plate_id"].agg(set)  # sorted by dose
        if len(plates) < 2 or (plates.index[1:] / plates.index[:-1]).min() > ROUNDED * (1 + 1e-9):
            continue
        groups: list[list[float]] = []
        taken: set[str] = set()
        for dose, on in plates.items():
            if groups and not taken & on and all(_alike(other, dose) for other in groups[-1]):
                groups[-1].append(dose)
                taken |= on
            else:
                groups.append([dose])
                taken = set(on)
        for group in groups:
            if len(group) > 1:
                exact = max(group, key=lambda dose: len(Decimal(repr(float(dose))).normalize().as_tuple().digits))
                meant |= {(compound, dose): exact for dose in group}
                rows.append((compound, exact, ", ".join(f"{dose:.10g}" for dose in group)))
    merged = pd.DataFrame(rows, columns=["compound", "concentration_uM", "written"])
    if merged.empty:
        return wells, merged
    pairs = zip(wells["compound"], wells["concentration_uM"], strict=True)
    doses = np.array([meant.get(pair, pair[1]) for pair in pairs], float)
    return wells.assign(concentration_uM=doses), merged


def one_dose_each(wells: pd.DataFrame) -> pd.DataFrame:
    """`merge_doses`, with a warning that names what was merged; a table without the columns for it as it is."""
    if not {"compound", "concentration_uM", "plate_id"} <= set(wells):
        return wells
    wells, merged = merge_doses(wells)
    if len(merged):
        shown = "; ".join(f"{one.compound}: {one.written}" for one in merged.head(3).itertuples())
        warnings.warn(
            f"{len(merged)} dose(s) of {merged['compound'].nunique()} compound(s) are written in more than one way and "
            f"taken as one each, {shown}{' …' if len(merged) > 3 else ''} (uM).",
            stacklevel=3,
        )
    return wells


def _alike(low: float, high: float) -> bool:
    """Whether two doses, `low` <= `high`, may be one; see `merge_doses`."""
    if high <= low * ALIKE * (1 + 1e-9):
        return True
    # Half a unit of the last digit of each is what rounding may have moved it by.
    unsure = sum(10.0 ** Decimal(repr(float(dose))).normalize().as_tuple().exponent for dose in (low, high)) / 2
    return high <= low * ROUNDED * (1 + 1e-9) and high - low <= unsure * (1 + 1e-9)
