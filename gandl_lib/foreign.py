"""Tables of features as other programs write them, and which site or well each row is.

`.csv` (compressed or not), `.parquet` and `.h5ad` (AnnData: X and obs). A row says which site it is by `site_id` as
ours have it, or as CellProfiler and pycytominer do: `Metadata_Plate`, `Metadata_Well`, and `Metadata_Site` where there
is a row a site (`Plate`, `Well`, `Site` will do). Whatever else begins with `Metadata_`, or lies in an AnnData's obs,
is left alone: what was in a well is the wells table's to say, because units and controls cannot be told from such
columns. Columns that only number the rows (a pandas index, CellProfiler's ImageNumber) are no features either, and
named in `numbering`. All other columns are features.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from gandl_lib import wells as wells_table

PREFIX = "metadata_"
NUMBERING = re.compile(r"Unnamed: \d+|_?index|(?:Image|Object|Table)Number", re.IGNORECASE)
"""Columns that only number rows; the first is what pandas calls an index that came along without a name."""


class Table:
    """One such file: its features, and the `key` columns that say which site a row is.

    Raises:
        ValueError: it is no readable table, or has no key or no features.
    """

    def __init__(self, path: Path, chunk_rows: int) -> None:
        self.path, self.chunk_rows = path, chunk_rows
        self.whole = None
        try:
            if path.suffix == ".parquet":
                self.whole = pd.read_parquet(path)
                columns = candidates = list(self.whole.columns)
            elif path.suffix != ".h5ad":
                columns = candidates = list(pd.read_csv(path, nrows=0).columns)
            else:
                found = anndata.read_h5ad(path)
                X = found.X.toarray() if hasattr(found.X, "toarray") else np.asarray(found.X)
                obs = found.obs.reset_index(drop=True).drop(columns=[c for c in found.obs if c in found.var_names])
                self.whole = pd.concat([obs, pd.DataFrame(X, columns=list(found.var_names))], axis=1)
                columns, candidates = [*obs, *found.var_names], list(obs)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
            raise ValueError(f"{path}: not a readable table ({error}).") from None
        self.key = _key(candidates)
        known = set(self.key.values())
        where = set(candidates) if path.suffix == ".h5ad" else set()
        self.features = [
            c for c in columns if c not in known and c not in where and not c.lower().startswith(PREFIX)
        ]  # fmt: skip
        self.numbering = [c for c in self.features if NUMBERING.fullmatch(c)]
        self.features = [c for c in self.features if c not in self.numbering]
        if not self.key or not self.features:
            raise ValueError(
                f"{path}: expected site_id and features, or Metadata_Plate, Metadata_Well, for a row a site "
                f"Metadata_Site, and features; found {', '.join(map(str, columns[:5]))} ..."
            )
        repeated = pd.Series(self.features)[pd.Series(self.features).duplicated()]
        if len(repeated):
            raise ValueError(f"{path}: the feature {repeated.iloc[0]} comes twice.")

    def pieces(self, features: bool) -> Iterator[pd.DataFrame]:
        """`chunk_rows` rows at a time: the key's columns as text, named as in `key`, and the features as float32."""
        names = {column: key for key, column in self.key.items()}
        wanted = [*names, *(self.features if features else [])]
        if self.whole is None:
            dtypes = dict.fromkeys(names, str) | dict.fromkeys(self.features, np.float32)
            try:
                with pd.read_csv(
                    self.path,
                    dtype={c: dtypes[c] for c in wanted},
                    usecols=wanted,
                    chunksize=self.chunk_rows,
                    keep_default_na=features,
                ) as pieces:
                    for piece in pieces:
                        yield piece.rename(columns=names)
            except (pd.errors.ParserError, UnicodeDecodeError) as error:
                raise ValueError(f"{self.path}: not a readable table ({error}).") from None
            return
        for start in range(0, len(self.whole), self.chunk_rows):
            piece = self.whole.iloc[start : start + self.chunk_rows][wanted].reset_index(drop=True)
            text = {c: piece[c].astype(object).map(_text) for c in names}
            try:
                yield piece.assign(**text).astype(dict.fromkeys(wanted[len(names) :], np.float32)).rename(columns=names)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self.path}: a feature is no number ({error}).") from None

    def rows(self, wells: pd.DataFrame) -> np.ndarray:
        """(n,) int, the row of `wells` (one a site, or one a well) that each row of this table is; -1 for none."""
        key = pd.concat(list(self.pieces(features=False)), ignore_index=True)
        if "site_id" in key:
            return _positions(pd.Index(wells["site_id"]), key["site_id"])
        well = key["well"].map(wells_table.name)
        if (bad := well.eq("")).any():
            raise ValueError(
                f"{self.path}: {bad.sum()} row(s) name no well like A01; found {key['well'][bad].iloc[0]!r}."
            )
        well = key["plate"].str.strip().map(_plates(wells)) + "_" + well
        if "site" not in key:
            return _positions(pd.Index(wells["well_id"]), well)
        site = pd.to_numeric(key["site"], errors="coerce")
        if (bad := ~(site.ge(0) & site.mod(1).eq(0))).any():
            raise ValueError(
                f"{self.path}: {bad.sum()} row(s) have no number of a site; found {key['site'][bad].iloc[0]!r}."
            )
        site = site.astype(int) + int(site.eq(0).any())  # counted from 0, as in a wells table; ours count from 1
        ours = pd.Index(wells["well_id"] + "|" + wells["site"].astype(str))
        return _positions(ours, well + "|" + site.astype(str))


def _key(columns: list[str]) -> dict[str, str]:
    """`site_id`, or `plate`, `well` and perhaps `site`, each to the column that says it; empty where none do."""

    def column(name: str) -> str | None:
        named = [f"Metadata_{name}", f"Metadata_{name.lower()}", name, name.lower()]
        return next((c for c in named if c in columns), None)

    for one in ("site_id", "Metadata_site_id"):
        if one in columns:
            return {"site_id": one}
    found = {name.lower(): column(name) for name in ("Plate", "Well", "Site")}
    if found["plate"] is None or found["well"] is None:
        return {}
    return {key: name for key, name in found.items() if name is not None}


def _plates(wells: pd.DataFrame) -> dict[str, str]:
    """The names that a plate goes by to its plate_id: the id itself, and the id without its batch where that is one."""
    one = wells[["plate_id", "experiment"]].drop_duplicates()
    short = pd.Series([p.removeprefix(f"{e}_") for p, e in zip(one["plate_id"], one["experiment"], strict=True)])
    ids = one["plate_id"].reset_index(drop=True)
    single = ~short.duplicated(keep=False)
    return dict(zip(short[single], ids[single], strict=True)) | dict(zip(ids, ids, strict=True))


def _positions(index: pd.Index, wanted: pd.Series) -> np.ndarray:
    return index.get_indexer(pd.Index(wanted.fillna("")))


def _text(value: object) -> str:
    """Plates and sites that became numbers on the way are 2 and not 2.0."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else str(int(value)) if float(value).is_integer() else str(value)
    return str(value)
