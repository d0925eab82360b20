"""Who trains and who is tested: by well, by plate, by compound.

Sites of one well see the same cells, and wells of one plate share stain and position effects. A split that tears them
apart scores memory, not learning. `by_well` asks "another well of plates I know?", `by_plate` "a plate I have never
seen?"; the second is what a screener needs, the first is what Mascolini et al. (2022) report.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

TEST_FRACTION = 0.25
"""Of wells, where nobody says otherwise."""


def by_well(
    wells: pd.DataFrame,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    stratify: tuple[str, ...] = ("role", "cell_type", "plate_id"),
) -> np.ndarray:
    """Choose test wells at random; all sites of a well go together.

    Test wells are spread evenly over `stratify`: each combination of all columns but the last (here role x cell type)
    of two wells or more gets its fraction, rounded, and at least one well on each side; within it, each value of the
    last (plate) gets its share to within one well.

    Args:
        wells: table with `well_id` and the columns of `stratify`, N rows.
        test_fraction: between 0 and 1.
        seed: the same seed and wells give the same test wells, whatever the order of rows.

    Returns:
        (N,) bool, True on the rows of test wells.

    Raises:
        ValueError: missing columns, a fraction outside (0, 1), or a well with two values in a `stratify` column.
    """
    _require(wells, ("well_id", *stratify))
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1; it is {test_fraction}.")
    table = wells[["well_id", *stratify]].astype(str).drop_duplicates()
    torn = table["well_id"][table["well_id"].duplicated()]
    if len(torn):
        raise ValueError(f"{len(torn)} well(s) have several values of {', '.join(stratify)}, first {torn.iloc[0]}.")
    rng = np.random.default_rng(seed)
    table = table.sort_values("well_id")
    table = table.assign(draw=rng.random(len(table))).sort_values([*stratify, "draw"])
    test = []
    for _, stratum in table.groupby(list(stratify[:-1]) if len(stratify) > 1 else lambda _: 0):
        n = len(stratum)
        n_test = 0 if n == 1 else int(np.clip(round(n * test_fraction), 1, n - 1))
        # Every (n / n_test)-th well of a list sorted by plate: each plate gives its share.
        picks = ((np.arange(n_test) + rng.random()) * n / max(n_test, 1)).astype(int)
        test.extend(stratum["well_id"].iloc[picks])
    return wells["well_id"].astype(str).isin(test).to_numpy()


def by_plate(
    wells: pd.DataFrame, labels: np.ndarray | None = None, max_folds: int | None = None
) -> list[tuple[str, np.ndarray]]:
    """Leave plates out: every plate is in exactly one test part, alone unless said otherwise.

    Args:
        wells: table with `plate_id`, N rows.
        labels: (N,) classes to be told apart. Where each plate holds one class only (one cell type a plate), plates
            are held out in sets with one of each class; else folds that lack a class on either side are dropped, aloud.
        max_folds: in a screen of many plates, hold out several at a time so that there are at most this many folds.

    Returns:
        (name, (N,) bool mask of test rows) per fold; empty, with a warning, if no fold is possible.
    """
    _require(wells, ("plate_id",))
    plate = wells["plate_id"].astype(str)
    names = sorted(plate.unique())
    n_folds = min(max_folds or len(names), len(names))
    sets = {name: i % n_folds for i, name in enumerate(names)}
    if labels is not None:
        classes = pd.Series(np.asarray(labels), index=wells.index).groupby(plate).agg(["first", "nunique"])
        n_classes = classes["first"].nunique()
        if (classes["nunique"] == 1).all() and n_classes > 1:
            n_folds = min(n_folds, classes["first"].value_counts().min())
            sets = (classes.groupby("first").cumcount() % n_folds).to_dict()
    members = pd.Series(sets).groupby(sets).groups
    fold = plate.map({name: "+".join(members[k]) for name, k in sets.items()})
    return by_group(wells.assign(**{"held-out plate": fold}), "held-out plate", labels)


def by_group(wells: pd.DataFrame, column: str, labels: np.ndarray | None = None) -> list[tuple[str, np.ndarray]]:
    """Leave one value of `column` out at a time (compound, experiment, ...): every row is in exactly one test part.

    With `labels` (N,), folds whose training or test part lacks a class are dropped with a warning that names them.

    Returns:
        (value, (N,) bool mask of test rows) per fold, sorted by value.
    """
    _require(wells, (column,))
    groups = wells[column].astype(str).to_numpy()
    names = sorted(set(groups))
    if len(names) < 2:
        warnings.warn(f"Only one {column} ({names[0]}): nothing can be held out.", stacklevel=2)
        return []
    folds = [(name, groups == name) for name in names]
    if labels is None:
        return folds
    labels = np.asarray(labels)
    classes = set(labels)
    complete = [(n, test) for n, test in folds if set(labels[test]) == classes == set(labels[~test])]
    dropped = [name for name, _ in folds if name not in {n for n, _ in complete}]
    if dropped:
        warnings.warn(
            f"{len(dropped)} of {len(folds)} folds by {column} dropped, a class of {sorted(map(str, classes))} is "
            f"missing from their test or training part: {', '.join(dropped[:5])}.",
            stacklevel=2,
        )
    return complete


def _require(wells: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [c for c in columns if c not in wells]
    if missing:
        raise ValueError(f"The wells table lacks the column(s) {', '.join(missing)}; it has {', '.join(wells)}.")
    if len(wells) == 0:
        raise ValueError("The wells table is empty; there is nothing to split.")
