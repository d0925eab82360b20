"""Somebody's own table as a wells table: plates, wells, sites, what was done to them, and which files show them.

**Left out, with a reason**: a row that is unusable; rows that contradict each other, or name the same file as another
site. Of rows that repeat a site word for word the first is kept; rows that differ in nothing but columns which
`screen.toml` does not mention are the channels of one site. **Refused**: a table that nobody could make sense of, and
values that look like a control and are not called one. **Noted**: compounds that look like one, and wells of one
compound and dose that differ in another column.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from gandl_lib import wells as names
from gandl_lib.datasets._recursion import METADATA
from gandl_lib.datasets.own import units
from gandl_lib.datasets.own.description import Description
from gandl_lib.datasets.own.disk import STAR, Folder, plain
from gandl_lib.datasets.own.text import read_table
from gandl_lib.wells import COLUMNS, validate

DECIMAL_WHOLE = re.compile(r"^(\d+)\.0+$")
"""2.0, as spreadsheets write a 2 in a column that has gaps."""
VEHICLES = ("dmso", "vehicle", "untreated", "mock", "medium", "media", "pbs", "water", "h2o", "negcon")
"""What a compound is usually not called."""


@dataclass
class Parsed:
    """What a table says, images unseen."""

    wells: pd.DataFrame
    unusable: pd.DataFrame
    """`site_id, reason` of rows left out."""
    notes: list[tuple[str, str]]
    """(what, where) of odd things."""
    named: list[str]
    """Every file that a row names, unusable ones too."""


@dataclass
class _Rows:
    """The table while it is read: text (index = line of the file), why lines are unusable, and notes."""

    path: Path
    said: Description
    text: pd.DataFrame
    notes: list[tuple[str, str]]
    reasons: dict[int, str] = field(default_factory=dict)

    def column(self, key: str, default: str = "") -> pd.Series:
        """The text of one of our columns."""
        if key not in self.said.columns:
            return pd.Series(default, self.text.index)
        return fill(self.said.columns[key], self.text, f"{self.said.path}: [columns] {key}", whole=key == "well")

    def skip(self, bad: pd.Series, values: pd.Series, why: str) -> None:
        for line in self.text.index[bad]:
            self.reasons.setdefault(line, f"line {line}: {why}; found {str(values[line])[:60]!r}")


def parse(root: Path, said: Description, folder: Folder, name: str = METADATA) -> Parsed:
    """The wells table of the table `name` in `root`, its unusable rows and what is odd about it.

    Args:
        said: the description that lies beside it.
        folder: what lies on the disk; looked at only for names with a `*`.

    Raises:
        ValueError: naming a column that is missing, a control that is spelled in two ways, or the first reason where no
            row is usable.
    """
    path = root / name
    text, notes = read_table(path)
    rows = _Rows(path, said, text, notes)
    plate, batch = rows.column("plate"), rows.column("batch")
    rows.skip(plate.eq(""), plate, "no plate")
    shortened = plate.str.fullmatch(r"\d[.,]?\d*[eE]\+\d+")
    what = "a plate is called by a number that a spreadsheet may have shortened; several barcodes can become one"
    notes += [(what, name) for name in plate[shortened].unique()]
    well, site = _well(rows), _site(rows)
    control = rows.column("control")
    compound, role = _treatment(rows, control)
    concentration = _doses(rows, compound, role)
    experiment = batch.where(batch.ne(""), "screen")
    plate_id = _plate_ids(batch, plate, path)
    numbers = {}
    for one in sorted(set(experiment)):
        for k, name in enumerate(sorted(set(plate[experiment.eq(one)])), 1):
            numbers[one, name] = k
    wells = pd.DataFrame(
        {
            "site_id": plate_id + "_" + well + "_" + site.astype(str),
            "well_id": plate_id + "_" + well,
            "plate_id": plate_id,
            "cell_type": (cells := rows.column("cell_type", "cells")).where(cells.ne(""), "cells"),
            "experiment": experiment,
            "plate": [numbers[key] for key in zip(experiment, plate, strict=True)],
            "well": well,
            "site": site,
            "condition": control,
            "compound": compound,
            "concentration_uM": concentration,
            "role": role,
            "files": _files(rows, root, folder),
        },
        text.index,
    )
    core, named = list(wells), [name for files in wells["files"] for name in json.loads(files)]
    extra = [c for c in text if re.fullmatch(r"\w[\w .()%-]*", c) and c not in wells.columns and c not in COLUMNS]
    wells = wells.join(text[extra].rename(columns={"_index": "index_"}))  # a name that .h5ad files keep for themselves
    if said.tokens is not None:
        wells = _one_row_a_site(rows, wells)
    wells = _joined(rows, wells, core)
    _skip_contradictions(wells, rows.reasons)
    _skip_shared_files(rows, wells)
    good = ~wells.index.isin(rows.reasons)
    unusable = pd.DataFrame({"site_id": wells["site_id"], "reason": pd.Series(rows.reasons, dtype=object)}).loc[
        wells.index[~good]
    ]
    if not good.any():
        raise ValueError(
            f"{path}: none of the {len(wells)} row(s) can be used; the first: {unusable['reason'].iloc[0]}."
        )
    wells = wells[good].reset_index(drop=True)
    if not said.files:
        wells = wells.drop(columns="files")
    notes += _twins(wells) + _vehicles(wells) + _differing(wells, [c for c in wells if c in extra], rows)
    return Parsed(validate(wells, str(path)), unusable.reset_index(drop=True), notes, named)


# ---- where ----


def _well(rows: _Rows) -> pd.Series:
    places = rows.column("well")
    well = places.str.replace(r"\.0+$", "", regex=True).map(names.name)  # B2.0: a spreadsheet made 2 a decimal
    rows.skip(well.eq(""), places, "no well like A01 or r01c01")
    return well


def _site(rows: _Rows) -> pd.Series:
    fields = rows.column("site", "1")
    site = fields.str.extract(r"^\D*(\d{1,8})(?:[.,]0+)?$")[0].fillna("-1").astype(int)
    rows.skip(site.lt(0), fields, "no number of a site")
    if site.eq(0).any():
        site = site + 1
        rows.notes.append(("sites are numbered from 0; one was added", rows.path.name))
    return site


def _plate_ids(batch: pd.Series, plate: pd.Series, path: Path) -> pd.Series:
    """`<batch>_<plate>`; with ` | ` between them where `_` would give two plates one name.

    Raises:
        ValueError: that would still be so.
    """
    pairs = pd.DataFrame({"batch": batch, "plate": plate}).drop_duplicates()
    for sign in ("_", " | "):
        ids = (batch + sign).where(batch.ne(""), "") + plate
        if not ids[pairs.index].duplicated().any():
            return ids
    one = ids[pairs.index][ids[pairs.index].duplicated()].iloc[0]
    raise ValueError(f"{path}: two plates of different batches would both be called {one!r}; rename one of them.")


# ---- what was done ----


def _treatment(rows: _Rows, control: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Compound and role of every row."""
    said, compound = rows.said, rows.column("compound")
    compound = compound.mask(compound.str.lower().isin(units.MISSING), "")
    _ask_about_spellings(rows, control)
    role = control.map(said.controls).astype(object)
    without = "untreated" if not said.controls else "blank"
    role = role.where(role.notna(), np.where(compound.ne(""), "treated", without))
    for value, meant in said.controls.items():
        if not control.eq(value).any() and meant != "treated":
            rows.notes.append((f"no row has the control {value!r} of {said.path.name}", rows.path.name))
    for line in rows.text.index[role.eq("treated") & compound.eq("")]:
        rows.reasons.setdefault(line, f"line {line}: treated with what? The compound is missing; found ''")
    return compound, role


def _ask_about_spellings(rows: _Rows, control: pd.Series) -> None:
    """ValueError where a value is not called a control and looks like one that is: `dmso` beside `DMSO`."""
    said = rows.said
    known: dict[str, str] = {}
    for value, role in said.controls.items():
        if role != "treated" and folded(value):
            known.setdefault(folded(value), value)
    counts = control[~control.isin(said.controls)].value_counts()
    alike = {value: known[folded(value)] for value in counts.index if value and folded(value) in known}
    if not alike:
        return
    values = [f"{value!r} ({counts[value]} row(s)) like {meant!r}" for value, meant in list(alike.items())[:6]]
    value, meant = next(iter(alike.items()))
    raise ValueError(
        f"{rows.path}: is this a control in another spelling? {', '.join(values)}"
        f"{' and others' if len(alike) > 6 else ''}. Add {', '.join(map(repr, alike))} to "
        f'"{said.controls[meant]}" in [controls] of {said.path.name}, or to "treated" = [...] if a compound.'
    )


def folded(text: str) -> str:
    """What is left of a name when spelling is taken away: `DMSO (0.1%)`, `0.1 % dmso` and `Dmso ` are all `dmso`.

    Numbers and signs that tell compounds apart stay, in a form of their own: `A-1` is `a1`, and `A-11` is not.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[(\[][^)\]]*%[^)\]]*[)\]]|[<>~]?\d+(?:[.,]\d+)?\s*%(?:\s*\(?v/v\)?)?", " ", text)
    text = re.sub(r"\b(?:control|ctrl|vehicle control)\b", " ", text) if len(text.split()) > 1 else text
    text = re.sub(r"(?:^|(?<=[\s(]))[-−–](?=[\s)]|$)|[-−–]$", "minus", text).replace("+", "plus")  # (+)-x is not (-)-x
    return re.sub(r"[\W_]+", "", text)


def _doses(rows: _Rows, compound: pd.Series, role: pd.Series) -> pd.Series:
    """Micromolar; NaN where there is none."""
    said, index = rows.said, rows.text.index
    amounts = rows.column("concentration")
    asked = ~amounts.str.lower().isin(units.MISSING)
    decimal, mixed = said.decimal, ""
    if decimal is None:
        decimal, mixed = units.decimal_of(amounts[asked], rows.path, said.path)
    called = units.unit_in(said.columns.get("concentration", ""))
    unit = units.unit_of(said.unit)
    if called and unit and units.UNITS[unit] != units.UNITS[called] and "unit" not in said.columns:
        what = f"the column {said.columns['concentration']!r} is taken for {said.unit}, as {said.path.name} says"
        rows.notes.append((what, rows.path.name))
    unit = rows.column("unit")
    unit = unit.where(unit.ne(""), said.unit or "")
    pairs = list(zip(amounts[asked], unit[asked], strict=True))
    known = {pair: units.concentration(*pair, decimal, mixed) for pair in set(pairs)}
    concentration = pd.Series(np.nan, index)
    for line, pair in zip(index[asked], pairs, strict=True):
        value = known[pair]
        if isinstance(value, float):
            concentration[line] = value
        elif role[line] == "treated":
            rows.reasons.setdefault(line, f"line {line}: {value}; found {amounts[line][:60]!r}")
    # In a well that is no treatment, a dose of nothing (DMSO at 0, a percentage) is no mistake but has no meaning here.
    concentration = concentration.where(compound.ne(""), np.nan)
    bare = role.eq("treated") & ~asked & ~index.isin(rows.reasons)
    if bare.any() and "concentration" in said.columns:
        rows.notes += [("treated, but no concentration", f"line {line}") for line in index[bare]]
    return concentration


# ---- which files ----


def _files(rows: _Rows, root: Path, folder: Folder) -> list[str]:
    """Names of the files of each row, as JSON."""
    said = rows.said
    where = f"{said.path}: [images] files"
    if not said.files:
        return ["[]"] * len(rows.text)
    columns = [_names(rows, t.replace("*", STAR), where, root, folder) for t in said.files]
    found = []
    for line, row in zip(rows.text.index, zip(*columns, strict=True), strict=True):
        one = []
        for name in row:
            if STAR in name:
                fits = folder.matching(name)
                shown = name.replace(STAR, "*")
                if len(fits) != 1:
                    few = f"{len(fits)} files fit {shown}: {', '.join(fits[:3])}" if fits else f"{shown} is missing"
                    rows.reasons.setdefault(line, f"line {line}: {few}{'; one must' if fits else ''}")
                name = fits[0] if len(fits) == 1 else shown
            one.append(name)
        found.append(json.dumps(one, ensure_ascii=False))
    return found


def _names(rows: _Rows, template: str, where: str, root: Path, folder: Folder) -> pd.Series:
    """A template filled in; with 2 for 2.0 where only that file is there."""
    written, whole = (
        fill(template, rows.text, where, whole).map(lambda name: plain(name, root)) for whole in (False, True)
    )
    differ = written.ne(whole)
    if not written.map(str.isascii).all():  # tables are read in NFC; a Mac writes names of files in NFD
        as_lies = {unicodedata.normalize("NFC", name): name for name in reversed(folder.names)}
        written = written.where(written.isin(folder.names), written.map(lambda name: as_lies.get(name, name)))
    if not differ.any():
        return written
    there = set(folder.names)

    def found(name: str) -> bool:
        return len(folder.matching(name)) == 1 if STAR in name else name in there

    meant = differ & ~written.map(found) & whole.map(found)
    what = "names of files that the table writes with 2.0 or the like for 2 were found without it"
    rows.notes.extend((what, whole[line].replace(STAR, "*")) for line in rows.text.index[meant])
    return written.mask(meant, whole)


def fill(template: str, text: pd.DataFrame, where: str, whole: bool = False) -> pd.Series:
    """A column, or several put into a template like `{Row}{Column:02}`.

    Args:
        whole: take 2.0, as spreadsheets write 2, for 2; where a width is asked for, that is done in any case.

    Raises:
        ValueError: the table has no such column, or it is no template; begins with `where`.
    """
    if "{" not in template:
        if template not in text:
            drawn = sum(name.strip().isdecimal() for name in text) > len(text.columns) // 2
            hint = " Is it drawn as a plate? A row a well is needed: plate, well, compound, dose." if drawn else ""
            raise ValueError(
                f"{where} is {template!r}, but the table has no such column; it has {', '.join(text)}.{hint}"
            )
        return text[template]
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where} {template!r} is no template ({error}).") from None
    filled = pd.Series("", text.index)
    for literal, name, width, conversion in parts:
        filled += literal
        if name is not None:
            if name not in text:
                raise ValueError(f"{where} {template!r}: the table has no column {name!r}; it has {', '.join(text)}.")
            if conversion or (width and not re.fullmatch(r"0?\d", width)):
                raise ValueError(f"{where} {template!r}: only a width may follow a column's name, as in {{{name}:02}}.")
            values = text[name].str.replace(DECIMAL_WHOLE, r"\1", regex=True) if width or whole else text[name]
            filled += values.str.zfill(int(width)) if width else values
    return filled


def _used(said: Description) -> set[str]:
    """Columns of the table that the description mentions."""
    templates = [*said.columns.values(), *said.files]
    named = {name for t in templates if "{" in t for _, name, _, _ in string.Formatter().parse(t) if name}
    return named | set(said.columns.values())


def _one_row_a_site(rows: _Rows, wells: pd.DataFrame) -> pd.DataFrame:
    """Rows that are an image each, put together: `files` gets a name a channel."""
    said, tokens = rows.said, rows.said.tokens or {}
    written = rows.column("channel")
    channel = written.map(tokens)
    channel = channel.fillna(written.str.replace(DECIMAL_WHOLE, r"\1", regex=True).map(tokens))
    strange = written[channel.isna()]
    for value in strange.unique()[:5]:
        what = f"rows of channel {value!r}, which is none of {', '.join(tokens)}, were passed over"
        rows.notes += [(what, f"line {line}") for line in strange.index[strange.eq(value)]]
    wells = wells.assign(_channel=channel)[channel.notna()]
    if wells.empty:
        raise ValueError(
            f"{rows.path}: no row has a channel of {said.path.name}; found {', '.join(strange.unique()[:5])}."
        )
    first = []
    for site_id, site in wells.groupby("site_id", sort=False):
        line = site.index[0]
        by_channel = {c: json.loads(f)[0] for c, f in zip(site["_channel"], site["files"], strict=True)}
        if lacking := [c for c in said.channels if c not in by_channel]:
            rows.reasons.setdefault(line, f"line {line}: {site_id} has no row of channel {', '.join(lacking)}")
        elif twice := site["_channel"][site["_channel"].duplicated()].tolist():
            rows.reasons.setdefault(line, f"line {line}: {site_id} has several rows of channel {twice[0]}")
        bad = [rows.reasons[one] for one in site.index if one in rows.reasons]
        if bad:
            rows.reasons[line] = bad[0]
        files = json.dumps([by_channel.get(c, "") for c in said.channels], ensure_ascii=False)
        same = site.columns[site.nunique(dropna=False).le(1)]
        row = site.iloc[0].where(site.columns.isin([*same, "site_id", "files", *COLUMNS]), "")
        first.append(row.rename(line).to_frame().T.assign(files=files))
        others = site[[c for c in ("well_id", "compound", "concentration_uM", "role", "cell_type")]].drop_duplicates()
        if len(others) > 1:
            rows.reasons[line] = f"line {line}: the rows of {site_id} disagree on what was done to it"
    return pd.concat(first).drop(columns="_channel").astype(wells.drop(columns="_channel").dtypes.to_dict())


def _joined(rows: _Rows, wells: pd.DataFrame, core: list[str]) -> pd.DataFrame:
    """Rows of one site that differ only in columns that nobody mentions are one: a row a channel, a row a plane.

    Those columns, which have no single value, are dropped.
    """
    repeated = wells.duplicated(core, keep=False) & ~wells.duplicated(keep=False) & ~wells.index.isin(rows.reasons)
    if not repeated.any():
        return wells
    extra = [c for c in wells if c not in core]
    differing = [c for c in extra if wells[repeated].groupby("site_id")[c].nunique().gt(1).any()]
    dropped = repeated & wells.duplicated(core)
    what = f"rows that differ from another of their site only in {', '.join(differing[:6])} were joined with it"
    rows.notes += [(what, f"line {line}") for line in wells.index[dropped]]
    return wells[~dropped].drop(columns=differing)


# ---- what cannot be true ----


def _skip_contradictions(wells: pd.DataFrame, reasons: dict[int, str]) -> None:
    """Write down why rows that repeat or contradict others are left out; index = line of the file."""
    usable = wells[~wells.index.isin(reasons)]
    for site_id, rows in usable[usable["site_id"].duplicated(keep=False)].groupby("site_id"):
        first, *others = rows.index
        if len(rows.drop_duplicates()) == 1:
            reasons.update({line: f"line {line}: repeats line {first}, which is kept" for line in others})
        else:
            lines = ", ".join(map(str, rows.index[:5]))
            differ = ", ".join(c for c in rows if rows[c].nunique(dropna=False) > 1)
            why = f"{site_id} is described more than once, and differently, in lines {lines}; a row a site is expected"
            reasons.update({line: f"line {line}: {why} (they differ in {differ})" for line in rows.index})
    usable = wells[~wells.index.isin(reasons)]
    shared = ["plate_id", "cell_type", "condition", "compound", "concentration_uM", "role"]
    torn = usable.groupby("well_id")[shared].nunique(dropna=False).gt(1)
    for well_id, differs in torn[torn.any(axis=1)].iterrows():
        what = ", ".join(differs.index[differs])
        for line in usable.index[usable["well_id"].eq(well_id)]:
            reasons[line] = f"line {line}: the sites of well {well_id} disagree on {what}"


def _skip_shared_files(rows: _Rows, wells: pd.DataFrame) -> None:
    """Leave out every site that names a file which another site, or another channel of its own, names too."""
    usable = wells[~wells.index.isin(rows.reasons)]
    named: dict[str, list[int]] = {}
    for line, files in usable["files"].items():
        for name in json.loads(files):
            named.setdefault(name, []).append(line)
    forgotten = [
        f"{{{rows.said.columns[key]}}}"
        for key in ("batch", "plate", "well", "site")
        if key in rows.said.columns and "{" not in rows.said.columns[key]
        and not any(f"{{{rows.said.columns[key]}" in template for template in rows.said.files)
    ]  # fmt: skip
    hint = f"; do files in {rows.said.path.name} lack {' or '.join(forgotten)}?" if forgotten else ""
    for name, lines in named.items():
        if len(lines) < 2:
            continue
        for line in set(lines):
            others = sorted(set(lines) - {line})
            with_whom = f"so does line {others[0]} ({usable['site_id'][others[0]]})" if others else "for two channels"
            rows.reasons.setdefault(line, f"line {line}: names {name}, and {with_whom}{hint}")


# ---- what is odd ----


def _twins(wells: pd.DataFrame) -> list[tuple[str, str]]:
    """Compounds that look like one."""
    treated = wells.loc[wells["role"] == "treated", "compound"]
    groups: dict[str, list[str]] = {}
    for name in treated.unique():
        groups.setdefault(folded(name) or name, []).append(name)
    return [
        (f"{', '.join(spelled)} look like one compound and are taken for {len(spelled)}", spelled[0])
        for spelled in groups.values()
        if len(spelled) > 1
    ]


def _vehicles(wells: pd.DataFrame) -> list[tuple[str, str]]:
    """Compounds that are called like a vehicle, or are a control elsewhere."""
    treated = wells[wells["role"] == "treated"]
    controls = set(wells.loc[wells["role"].isin(["C+", "C-", "UV", "untreated"]), "compound"]) - {""}
    notes = []
    for name, rows in treated.groupby("compound"):
        if folded(name) in VEHICLES:
            what = f"{name} is taken for a compound; if it is a control, [controls] should say so"
        elif name in controls:
            what = f"{name} is a control in some wells and a treatment in others"
        else:
            continue
        notes += [(what, well) for well in rows["well_id"].unique()]
    return notes


def _differing(wells: pd.DataFrame, extra: list[str], rows: _Rows) -> list[tuple[str, str]]:
    """Columns in which wells of one compound and dose differ, so that they are no replicates: a time, a second drug.

    Columns that only say again which row, column, well, site or image it is are left alone, and so are those that have
    another value in nearly every well (remarks, measurements, names).
    """
    treated = wells[wells["role"] == "treated"].assign(
        _row=wells["well"].str.rstrip("0123456789"), _column=wells["well"].str.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    )
    used, keys, notes = _used(rows.said), ["cell_type", "compound", "concentration_uM"], []
    per_well = treated.drop_duplicates("well_id")
    for column in (c for c in extra if c not in used):
        values = treated[column].nunique()
        if values < 2 or values > max(12, len(per_well) // 8):
            continue
        if any(_same_grouping(treated, column, other) for other in ("_row", "_column", "well", "site")):
            continue
        if treated["plate_id"].nunique() > 3 and _same_grouping(treated, column, "plate_id"):
            continue  # another name of the plate
        apart = treated.groupby(keys, dropna=False)[column].nunique()
        apart = apart[apart > 1]
        if len(apart):
            some = ", ".join(map(repr, sorted(treated[column].unique())[:4]))
            what = f"wells of one compound and dose differ in {column} ({some}) and are taken for replicates"
            notes += [(what, str(key[1])) for key in apart.index]
    return notes


def _same_grouping(table: pd.DataFrame, one: str, other: str) -> bool:
    """Whether two columns part the rows in the same way."""
    n = table[[one, other]].drop_duplicates()
    return len(n) == n[one].nunique() == n[other].nunique()
