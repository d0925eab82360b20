"""Profiles: features of sites or wells beside what is known about them, and their normalisation per plate.

A profile table is an `anndata.AnnData`: X (N, D) float32 holds N sites (or wells) by D features, `obs` is the wells
table (see `wells.py`), and `uns["provenance"]` is a JSON string with at least `"method"`.

**Why normalise.** Stain, exposure and handling differ from plate to plate, so the same cells land elsewhere in feature
space. Each recipe below undoes what a plate does to all its wells. With mu_p, sigma_p the mean and standard deviation
of a feature over the *reference wells* of plate p (Mascolini et al. 2022 normalise per plate and give no recipe):

* `none`      nothing.
* `all`       (x - mu_p) / sigma_p, the reference being every well of the plate but its blank ones. Uses no label.
* `controls`  the same, the reference being the plate's negative controls.
* `tvn`       typical variation normalisation (Ando et al. 2017): `controls`; then PCA on the pooled controls of all
              plates and unit variance along each component; then CORAL (Sun et al. 2016) per plate, which turns that
              plate's control covariance S_p into the pooled one S:  x (S_p + 0.5 I)^(-1/2) (S + 0.5 I)^(1/2).

**Why no blank wells.** They hold no cells, so they lie far from all others: a few of them widen sigma_p in just those
features that see whether there are cells, and each plate's number of them moves its mu_p. Where they are nearly all
that a plate has, nobody knew what was in them, and they are its reference.

**Why each cell line by itself.** Where a plate holds several cell types, the plate's mean says how many wells of each
lie there, and its spread how unlike they are. So wells are normalised among those of their plate *and* cell type (an
*arm*). On a plate of one cell type that is the plate.

**Which wells are negative controls.** Those of role `C-` (infected, no compound); in a screen without any, those of
role `untreated`. Never `C+` or `UV`: the class to be told apart from C- must not set the zero. `controls` and `tvn` do
read the label C-, so whoever scores that label afterwards passes `fit`, the rows they may read it from.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem, write_elem
from tqdm import tqdm

from gandl_lib import datasets, foreign
from gandl_lib.datasets import own
from gandl_lib.files import replacing
from gandl_lib.wells import one_dose_each

NORMALISATIONS = ("none", "all", "controls", "tvn")
READS_LABELS = ("controls", "tvn")
"""Normalisations that look at roles; they must be fitted on training wells."""

MIN_REFERENCE_WELLS = 2  # fewer have no spread to scale by
FEW_REFERENCE_WELLS = 4  # fewer on a plate of several cell types, and the zero of one of them is rough
CORAL_RIDGE = 0.5
CHUNK_ROWS = 4096  # of a long table at a time: 17 MB of 1,024 features
MAY_DIFFER = ("part", "device", "git_commit")  # between parts; all the rest of their provenance decides the numbers


def read(path: str | Path) -> AnnData:
    """Read profiles written by `write` (or by anyone, in the same form): X dense float32, text columns as plain text.

    Raises:
        ValueError: no such file, not an .h5ad file, or no method in its provenance.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; `gandl embed` writes profiles.")
    try:
        profiles = anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise a dozen kinds here
        raise ValueError(f"{path}: not a readable .h5ad file ({error}); write it again with `gandl embed`.") from error
    X = profiles.X.toarray() if hasattr(profiles.X, "toarray") else profiles.X
    profiles = AnnData(np.asarray(X, np.float32), obs=_plain(profiles.obs), var=profiles.var, uns=profiles.uns)
    try:
        check(profiles, ())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return profiles


def published(
    embeddings: str | Path, metadata: str | Path, where: str | None = None, method: str = "baseline"
) -> AnnData:
    """Embeddings that somebody else computed, as profiles; a table of features that says of which sites or wells.

    `foreign` tells which tables: `site_id` and features, as RxRx19a publishes them, CellProfiler's, pycytominer's, or
    an AnnData. A row a well gives a profile a well, without `site_id` and `site` and with `n_sites`.

    Read in pieces of `CHUNK_ROWS` rows, so that beside the result itself (4 bytes a number: 1.25 GB for all of RxRx19a,
    305,520 sites of 1,024 features) there is never more than a piece in memory.

    Args:
        embeddings: .csv, plain or compressed as pandas can tell from its name, .parquet or .h5ad.
        metadata: the screen's metadata.csv, or the folder it is in; or a table by any name beside a screen.toml.
        where: pandas query over the wells table, to take a part only.
        method: what tables will call it.

    Returns:
        AnnData of the sites that both files know, in the order of the metadata.

    Raises:
        ValueError: a file is missing or not such a table, a site comes twice, or the files share no site.
    """
    embeddings, metadata = Path(embeddings), Path(metadata)
    root = metadata if metadata.is_dir() else metadata.parent
    name = datasets.METADATA if metadata.is_dir() else metadata.name
    if own.find(root):
        wells = own.parse(root, name).wells
    elif name != datasets.METADATA:
        toml = root / own.MAPPINGS[0]
        raise ValueError(
            f"{metadata}: which of its columns are plate, well, compound, concentration and control? Say it in {toml}. "
            f"A first draft, guessed from the names of the columns; complete it, check it, save it there, and give the "
            f"same command again:\n\n{own.draft(metadata, images=False)}"
        )
    else:
        wells = datasets.open_layout(root).parse()
    wells = datasets.select(wells, where)
    if not embeddings.is_file():
        raise ValueError(f"{embeddings}: there is no such file; `gandl fetch rxrx19a OUT --embeddings` brings it.")
    table = foreign.Table(embeddings, CHUNK_ROWS)
    if "site_id" not in table.key and "site" not in table.key:  # a row a well
        n_sites = wells["well_id"].map(wells["well_id"].value_counts())
        wells = wells.assign(n_sites=n_sites).drop_duplicates("well_id", ignore_index=True)
        wells = wells.drop(columns=["site_id", "site"])
    unit = "site_id" if "site_id" in wells else "well_id"
    rows = table.rows(wells)
    found = pd.Series(rows[rows >= 0])
    if found.duplicated().any():
        twice = wells[unit][found[found.duplicated()].iloc[0]]
        raise ValueError(f"{embeddings}: {unit.removesuffix('_id')} {twice} comes twice.")
    if found.empty:
        raise ValueError(
            f"{embeddings} and {metadata} have no {unit.removesuffix('_id')} in common; the metadata's first is "
            f"{wells[unit][0]}."
        )
    features = table.features
    wells = wells.drop(columns=[c for c in features if c in wells])  # where one table is both
    X, known, start = np.empty((len(wells), len(features)), np.float32), np.zeros(len(wells), bool), 0
    known[found] = True
    with tqdm(total=len(rows), desc=f"read {embeddings.name}", unit="row", disable=None) as progress:
        for piece in table.pieces(features=True):
            at = rows[start : start + len(piece)]
            X[at[at >= 0]] = piece[features].to_numpy(np.float32)[at >= 0]
            start += len(piece)
            progress.update(len(piece))
    if table.numbering:
        print(
            f"{', '.join(table.numbering)} of {embeddings.name} only number rows and are no features.", file=sys.stderr
        )
    if where is None and len(found) < len(rows):
        print(
            f"{len(rows) - len(found)} of {len(rows)} rows of {embeddings.name} are not in {metadata} and left out.",
            file=sys.stderr,
        )
    if not known.all():
        print(
            f"{(~known).sum()} of {len(wells)} {unit.removesuffix('_id')}s have no embedding and are left out.",
            file=sys.stderr,
        )
        X, wells = X[known], wells[known].reset_index(drop=True)
    made = AnnData(X, obs=wells.set_axis(wells.index.astype(str)), var=pd.DataFrame(index=features))
    made.uns["provenance"] = json.dumps(
        {"method": method, "embeddings": embeddings.name, "simulated": False, "n_seen": None}
    )
    check(made)
    return made


def write(profiles: AnnData, path: str | Path) -> None:
    """Write `profiles` to `path` (.h5ad). The final name appears only once the file is complete.

    Raises:
        ValueError: X has values that are not finite, or provenance names no method.
        OSError: the disk is full or the folder not writable; nothing of an earlier file at `path` is lost.
    """
    check(profiles, ())
    with replacing(path) as partial:
        profiles.write_h5ad(partial, convert_strings_to_categoricals=False)


def join(parts: Sequence[str | Path], out: str | Path) -> None:
    """Put the profiles that `gandl embed --part k/n` wrote together, as if they had been made in one go.

    Holds `CHUNK_ROWS` rows of features or one column of the wells table at a time. Where parts come from different
    devices or commits, the provenance names them all.

    Args:
        parts: the n files, in any order.
        out: profiles to write (.h5ad). The final name appears only once the file is complete.

    Raises:
        ValueError: a file is no such part; a part is missing, comes twice, or was made from something else.
        OSError: the disk is full or the folder not writable.
    """
    out = Path(out)
    with ExitStack() as opened:
        numbered = {}
        for path in map(Path, parts):
            file, made = opened.enter_context(_open_part(path)), None
            try:
                made = json.loads(read_elem(file["uns"]["provenance"]))
                k, n = map(int, made["part"].split("/"))
            except (KeyError, ValueError, AttributeError):
                raise ValueError(f"{path}: no part; `gandl embed … --part 1/{len(parts)}` writes one.") from None
            if k in numbered:
                raise ValueError(f"{path} and {numbered[k][0]} are both part {k}/{n}.")
            numbered[k] = path, file, made, n
        if not numbered:
            raise ValueError("No parts were given; pass the files that `gandl embed --part k/n` wrote.")
        n = next(iter(numbered.values()))[3]
        if missing := [f"{k}/{n}" for k in range(1, n + 1) if k not in numbered]:
            raise ValueError(f"{out}: {len(missing)} of {n} part(s) missing: {', '.join(missing[:5])}.")
        paths, files, mades, _ = zip(*(numbered[k] for k in sorted(numbered)), strict=True)
        rows = _check_parts(paths, files, mades)

        with replacing(out) as partial, h5py.File(partial, "w") as joined:
            _write_joined(joined, files, mades, rows)


def _open_part(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; `gandl embed … --part k/n` writes parts.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable .h5ad file ({error}); embed this part again.") from error


def _check_parts(paths: Sequence[Path], files: Sequence[h5py.File], mades: Sequence[dict[str, Any]]) -> list[int]:
    """Rows of each part; ValueError where one is unlike the first or does not begin where the one before ends."""
    lasting = [{key: value for key, value in made.items() if key not in MAY_DIFFER} for made in mades]
    features = [read_elem(file["var"]).index for file in files]
    columns = [list(file["obs"].attrs["column-order"]) for file in files]
    rows = []
    for path, file, these, names, fields in zip(paths, files, lasting, features, columns, strict=True):
        if these != lasting[0]:
            keys = [key for key in lasting[0] | these if these.get(key) != lasting[0].get(key)]
            raise ValueError(
                f"{path} and {paths[0]} were not made alike; they differ in {', '.join(keys)}. Embed one of them again."
            )
        if not names.equals(features[0]) or fields != columns[0]:
            raise ValueError(f"{path} and {paths[0]} have different features or columns; embed one of them again.")
        index = file["obs"][file["obs"].attrs["_index"]]
        if not len(index) or read_elem(index)[0] != str(sum(rows)):
            raise ValueError(f"{path}: does not begin at row {sum(rows)}, where the part before ends; embed both anew.")
        rows.append(len(index))
    return rows


def _write_joined(
    joined: h5py.File, files: Sequence[h5py.File], mades: Sequence[dict[str, Any]], rows: Sequence[int]
) -> None:
    """The elements of an .h5ad file: https://anndata.readthedocs.io/en/latest/fileformat-prose.html"""
    first = files[0]
    joined.attrs.update(first.attrs)
    for name in set(first) - {"X", "obs"}:
        first.copy(name, joined)

    made = {key: value for key, value in mades[0].items() if key != "part"}
    for key in ("device", "git_commit"):
        if len(found := dict.fromkeys(str(one.get(key)) for one in mades)) > 1:
            made[key] = "; ".join(found)
    del joined["uns"]["provenance"]
    write_elem(joined["uns"], "provenance", json.dumps(made))

    X = joined.create_dataset("X", (sum(rows), first["X"].shape[1]), first["X"].dtype)
    X.attrs.update(first["X"].attrs)
    at = 0
    for file, n in zip(files, rows, strict=True):
        for start in range(0, n, CHUNK_ROWS):
            piece = file["X"][start : start + CHUNK_ROWS]
            X[at : at + len(piece)] = piece
            at += len(piece)

    obs = joined.create_group("obs")
    obs.attrs.update(first["obs"].attrs)
    for name in first["obs"]:
        write_elem(obs, name, np.concatenate([np.asarray(read_elem(file["obs"][name])) for file in files]))


def check(profiles: AnnData, columns: tuple[str, ...] = ()) -> str:
    """Return the method's name if `profiles` has the given obs columns, finite X and a provenance; else ValueError."""
    if not isinstance(profiles, AnnData):
        raise ValueError(f"Profiles must be an AnnData, not {type(profiles).__name__}; `profiles.read` gives one.")
    missing = [c for c in columns if c not in profiles.obs]
    if missing:
        raise ValueError(
            f"The profiles' obs lacks the column(s) {', '.join(missing)}; it has {', '.join(profiles.obs)}. "
            "obs must be the wells table (see gandl_lib/wells.py)."
        )
    try:
        method = json.loads(profiles.uns["provenance"])["method"]
    except (KeyError, TypeError, ValueError):
        found = profiles.uns.get("provenance", "nothing")
        raise ValueError(
            f'uns["provenance"] must be a JSON string with a "method"; found {str(found)[:80]!r}. An AnnData by '
            "another program becomes profiles by `gandl profiles THIS.h5ad METADATA OUT.h5ad`; its obs needs "
            "Metadata_Plate and Metadata_Well."
        ) from None
    if profiles.n_obs == 0 or profiles.n_vars == 0:
        raise ValueError(f"{method}: the profiles are empty, {profiles.n_obs} rows of {profiles.n_vars} features.")
    X = profiles.X
    bad = np.concatenate([~np.isfinite(X[i : i + 4096]).all(axis=1) for i in range(0, len(X), 4096)])
    if bad.any():
        rows = ", ".join(profiles.obs_names[bad][:3])
        features = ", ".join(profiles.var_names[~np.isfinite(X[bad]).all(axis=0)][:3])
        raise ValueError(
            f"{method}: X has NaN or infinite values in {bad.sum()} of {len(X)} rows (first rows {rows}; first "
            f"features {features}); drop those rows or embed them again."
        )
    return method


def by_method(profiles: AnnData | list[AnnData], columns: tuple[str, ...]) -> dict[str, AnnData]:
    """One or several profile tables, checked, as a dict from method to profiles. Two of one name are a ValueError.

    Doses that differ only in how they were rounded are made one here (`wells.merge_doses`), with a warning, so that
    all that group by dose do it alike.
    """
    named = {}
    for p in [profiles] if isinstance(profiles, AnnData) else list(profiles):
        method = check(p, columns)
        if method in named:
            raise ValueError(f"Two profile tables name the method {method!r}; give each its own name in provenance.")
        named[method] = AnnData(p.X, obs=one_dose_each(_plain(p.obs)), var=p.var, uns=p.uns)
    if not named:
        raise ValueError("No profiles were given; pass at least one AnnData.")
    return named


def aggregate(profiles: AnnData, by: str = "well_id") -> AnnData:
    """Mean over the rows that share `by` (sites of a well, crops of a site), in order of first appearance.

    Returns:
        AnnData of G groups: X (G, D) float32; obs keeps the columns that are constant within every group and gains
        `n_sites`, the number of distinct sites in each; uns is carried along.

    Raises:
        ValueError: `by` is not a column of obs, or X is not finite.
    """
    check(profiles, (by,))
    obs = _plain(profiles.obs)
    codes, names = pd.factorize(obs[by])
    if (codes < 0).any():
        raise ValueError(f"{(codes < 0).sum()} row(s) have no {by}; fill the column or drop them.")
    X = pd.DataFrame(profiles.X).groupby(codes).mean().to_numpy(np.float32)  # (G, D); pandas sums with compensation
    grouped = obs.groupby(codes)
    constant = grouped.nunique(dropna=False).le(1).all()
    table = grouped.first(skipna=False)[[c for c in obs if constant[c] and c != "n_sites"]]
    if "site_id" in obs:
        table["n_sites"] = grouped["site_id"].nunique()
    else:
        table["n_sites"] = grouped["n_sites"].sum() if "n_sites" in obs else grouped.size()
    table.index = names.astype(str)
    return AnnData(X, obs=table, var=profiles.var.copy(), uns=dict(profiles.uns))


def normalise(profiles: AnnData, how: str = "all", fit: np.ndarray | None = None) -> AnnData:
    """Normalise each plate by one of `NORMALISATIONS` (see this module's docstring for the formulas).

    Args:
        profiles: N rows by D features, obs with `plate_id`, `well_id`, `role`; with `cell_type`, cell types that share
            a plate are normalised each by itself. A warning names those with few reference wells; one with fewer than
            two takes the reference wells that its cell type has on the other plates.
        how: name of the recipe.
        fit: (N,) bool, the rows means, spreads and components may be taken from; None for all. With `controls` and
            `tvn` pass the training rows wherever roles are scored later.

    Returns:
        New AnnData with X float32, (N, D), for `tvn` (N, K) where K <= D is the rank of the pooled controls. Features
        constant over a plate's reference wells carry no scale and become 0 on that plate.

    Raises:
        ValueError: unknown `how`, missing columns, or plates with fewer than two reference wells, by name.
    """
    if how not in NORMALISATIONS:
        raise ValueError(f"Unknown normalisation {how!r}; choose one of {', '.join(NORMALISATIONS)}.")
    check(profiles, () if how == "none" else ("plate_id", "well_id", "role"))
    uns = {**profiles.uns, "normalisation": how}
    if how == "none":
        return AnnData(profiles.X.copy(), obs=profiles.obs.copy(), var=profiles.var.copy(), uns=uns)

    reference = np.ones(profiles.n_obs, bool) if fit is None else np.asarray(fit)
    if reference.shape != (profiles.n_obs,) or reference.dtype != bool:
        raise ValueError(
            f"fit must be {profiles.n_obs} booleans, one a row; it is {reference.shape} of {reference.dtype}."
        )
    if how in READS_LABELS:
        reference = reference & is_negative_control(profiles.obs)
    plates = _plates(profiles.obs, reference, how)

    raw, X = profiles.X, np.empty(profiles.shape, np.float32)
    for rows, fitted in plates:
        X[rows] = _standardise(raw[rows], raw[fitted])
    if how != "tvn":
        return AnnData(X, obs=profiles.obs.copy(), var=profiles.var.copy(), uns=uns)
    X = _align_covariances(X, plates)
    var = pd.DataFrame(index=[f"tvn_{i}" for i in range(X.shape[1])])
    return AnnData(X, obs=profiles.obs.copy(), var=var, uns=uns)


def is_negative_control(obs: pd.DataFrame) -> np.ndarray:
    """(N,) bool: role `C-`, or `untreated` in a table that has no `C-` at all."""
    role = np.asarray(obs["role"])
    return role == ("C-" if (role == "C-").any() else "untreated")


def arms(obs: pd.DataFrame) -> np.ndarray:
    """(N,) int, the same for rows that are normalised together: those of a plate, or of one cell type on it.

    A cell type that a plate has in blank wells only makes no arm; they go with the cell type of most of its wells.
    """
    plate = pd.factorize(np.asarray(obs["plate_id"]), sort=True)[0]
    if "cell_type" not in obs:
        return plate
    cell_type, blank = pd.Series(np.asarray(obs["cell_type"])), np.asarray(obs["role"] == "blank")
    several = cell_type[~blank].groupby(plate[~blank]).nunique()
    for k in several.index[several > 1]:
        counts = cell_type[(plate == k) & ~blank].value_counts()
        cell_type[(plate == k) & ~cell_type.isin(counts.index).to_numpy()] = counts.index[0]
    line = cell_type.where(np.isin(plate, several.index[several > 1]), "")
    return pd.DataFrame({"plate": plate, "line": line}).groupby(["plate", "line"], sort=True).ngroup().to_numpy()


def _plates(obs: pd.DataFrame, reference: np.ndarray, how: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per arm the indices of its rows and of its reference rows; ValueError if one has too few of the latter."""
    wells, blank = np.asarray(obs["well_id"]), np.asarray(obs["role"] == "blank")
    plate_id, arm = np.asarray(obs["plate_id"]), arms(obs)
    cell_type = np.asarray(obs["cell_type"]) if "cell_type" in obs else np.full(len(obs), "")
    n_arms = pd.Series(arm).groupby(plate_id).nunique()
    plates, short, few, borrowed = [], [], [], []
    for k in range(arm.max() + 1):
        rows = np.flatnonzero(arm == k)
        plate, shared = plate_id[rows[0]], n_arms[plate_id[rows[0]]] > 1
        line = next((cell_type[i] for i in rows if not blank[i]), cell_type[rows[0]])
        fitted = rows[reference[rows]]
        filled = fitted[~blank[fitted]]
        if shared and len(set(wells[filled])) < MIN_REFERENCE_WELLS:
            filled = np.flatnonzero(reference & ~blank & (cell_type == line))
            borrowed.append(f"{plate}, {line}")
        elif shared and len(set(wells[filled])) < FEW_REFERENCE_WELLS:
            few.append(f"{plate}, {line} ({len(set(wells[filled]))})")
        if shared or len(set(wells[filled])) >= MIN_REFERENCE_WELLS:
            fitted = filled
        n_wells = len(set(wells[fitted]))
        if n_wells < MIN_REFERENCE_WELLS:
            roles = ", ".join(f"{n} {role}" for role, n in obs.iloc[rows]["role"].value_counts().items() if n)
            short.append(f"{plate}{f', {line}' if shared else ''} ({n_wells}; its rows: {roles})")
        plates.append((rows, fitted))
    wanted = "wells" if how == "all" else "negative-control wells (C-, or untreated where a screen has no C-)"
    if short:
        other = "'none' needs none" if how == "all" else "'all' and 'none' need none"
        raise ValueError(
            f"Normalisation {how!r} needs at least {MIN_REFERENCE_WELLS} {wanted} to fit on each plate; too few on "
            f"{len(short)} plate(s): {'; '.join(short[:5])}. Drop these plates or normalise otherwise: {other}."
        )
    if borrowed:
        warnings.warn(
            f"Plates with several cell types, one of them with fewer than {MIN_REFERENCE_WELLS} {wanted} to normalise "
            f"by: {'; '.join(borrowed[:5])}. It was measured by those of that cell type on other plates, so what sets "
            "the plates apart is still in it.",
            stacklevel=3,
        )
    if few:
        warnings.warn(
            f"Plates with several cell types, normalised each by itself, one of them by fewer than "
            f"{FEW_REFERENCE_WELLS} {wanted}: {'; '.join(few[:5])}. Its zero and its scale are rough.",
            stacklevel=3,
        )
    return plates


def _standardise(X: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(n, D) minus the mean and over the standard deviation of `reference` (m, D); constant features become 0."""
    mean, sd = reference.mean(axis=0, dtype=np.float64), reference.std(axis=0, dtype=np.float64)
    constant = sd <= np.finfo(np.float32).eps * np.abs(mean)  # at or below what float32 can hold
    return (X - mean) * np.where(constant, 0, 1 / np.where(constant, 1, sd))


def _align_covariances(X: np.ndarray, plates: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The second half of TVN on (N, D) plate-standardised features: whiten on pooled controls, CORAL per plate."""
    from sklearn.decomposition import PCA  # two seconds, which whoever only reads and writes profiles need not wait

    controls = X[np.concatenate([fitted for _, fitted in plates])].astype(np.float64)  # (n, D)
    n, D = controls.shape
    pca = PCA(svd_solver="covariance_eigh" if n > D else "full").fit(controls)
    sd = np.sqrt(pca.explained_variance_ * (n - 1) / n)  # (min(n, D),)
    keep = sd > sd[0] * max(n, D) * np.finfo(np.float32).eps  # numerical rank: the rest is rounding blown up
    whiten = (pca.components_[keep] / sd[keep, None]).T  # (D, K)

    aligned = np.empty((len(X), whiten.shape[1]), np.float32)
    for rows, fitted in plates:
        C = (X[fitted] - pca.mean_) @ whiten  # (m, K)
        # The eigenvectors of S_p from a thin SVD, so that K may exceed the number of controls by far. The pooled S is
        # I by construction, and off those eigenvectors S_p is zero.
        _, s, V = np.linalg.svd((C - C.mean(axis=0)) / np.sqrt(len(C)), full_matrices=False)  # V (min(m, K), K)
        Y = (X[rows] - pca.mean_) @ whiten  # (n_p, K)
        rest = 1 / np.sqrt(CORAL_RIDGE)
        Y = Y * rest + (Y @ V.T * (1 / np.sqrt(s**2 + CORAL_RIDGE) - rest)) @ V
        aligned[rows] = Y * np.sqrt(1 + CORAL_RIDGE)
    return aligned


def _plain(obs: pd.DataFrame) -> pd.DataFrame:
    """`obs` with categorical columns as plain values; files written by others have them, and they group differently."""
    categorical = obs.select_dtypes("category").columns
    return obs.assign(**{c: obs[c].astype(obs[c].cat.categories.dtype) for c in categorical})
