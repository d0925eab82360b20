"""Wells never straddle, groups are never shared, nothing is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_profiles import make_profiles

from gandl_lib import splits
from gandl_lib.datasets import rxrx19a

ROLE = st.sampled_from(["C+", "C-", "UV", "treated"])


@st.composite
def wells_tables(draw) -> pd.DataFrame:
    """Wells with random roles, cell types, plates and numbers of sites, rows in random order."""
    wells = draw(
        st.lists(st.tuples(ROLE, st.sampled_from("HV"), st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=60)
    )
    rows = [
        (f"w{k}", role, cell, f"{cell}_{plate}") for k, (role, cell, plate, n) in enumerate(wells) for _ in range(n)
    ]
    table = pd.DataFrame(rows, columns=["well_id", "role", "cell_type", "plate_id"])
    return table.sample(frac=1, random_state=draw(st.integers(0, 99)), ignore_index=True)


@settings(max_examples=25)
@given(wells_tables(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_by_well_keeps_wells_whole_and_strata_in_proportion(table, fraction, seed):
    test = splits.by_well(table, fraction, seed)
    assert test.shape == (len(table),) and test.dtype == bool
    one = table.assign(test=test).drop_duplicates(["well_id", "test"])
    assert not one["well_id"].duplicated().any(), "a well on both sides"
    for _, stratum in one.groupby(["role", "cell_type"]):
        n, n_test = len(stratum), stratum["test"].sum()
        assert n_test == (0 if n == 1 else min(max(round(n * fraction), 1), n - 1))
        for _, plate in stratum.groupby("plate_id"):
            assert abs(plate["test"].sum() - len(plate) * n_test / n) < 1


@settings(max_examples=25)
@given(wells_tables(), st.integers(0, 5))
def test_by_well_depends_on_wells_and_seed_not_on_row_order(table, seed):
    chosen = set(table["well_id"][splits.by_well(table, seed=seed)])
    backwards = table[::-1]
    assert set(backwards["well_id"][splits.by_well(backwards, seed=seed)]) == chosen


def test_every_well_is_tested_equally_often():
    wells = make_profiles(roles={"C+": 3, "C-": 7}, sites=1).obs
    share = np.mean([splits.by_well(wells, seed=s) for s in range(80)], axis=0)
    # 40 wells, each drawn about a quarter of 80 times; C+ are 6 a cell type, of which round(1.5) = 2 are tested.
    expected = wells["role"].map({"C+": 2 / 6, "C-": 4 / 14}).to_numpy()
    assert np.abs(share - expected).max() < 4.5 * np.sqrt(0.25 * 0.75 / 80)


def test_by_well_explains_bad_input():
    wells = make_profiles().obs
    with pytest.raises(ValueError, match="between 0 and 1; it is 1"):
        splits.by_well(wells, 1)
    with pytest.raises(ValueError, match="lacks the column.*role"):
        splits.by_well(wells.drop(columns="role"))
    with pytest.raises(ValueError, match="empty"):
        splits.by_well(wells[:0])
    torn = wells.assign(role=["C+", "C-"] * (len(wells) // 2))
    with pytest.raises(ValueError, match="96 well.*several values of role"):
        splits.by_well(torn)


def assert_partition(folds: list, group: pd.Series) -> None:
    assert (sum(test.astype(int) for _, test in folds) == 1).all(), "every row is tested once"
    for _, test in folds:
        assert test.any() and not test.all()
        assert not set(group[test]) & set(group[~test])


@settings(max_examples=25)
@given(wells_tables(), st.one_of(st.none(), st.integers(2, 4)))
def test_by_plate_shares_no_plate_and_covers_all(table, max_folds):
    n_plates = table["plate_id"].nunique()
    if n_plates < 2:
        with pytest.warns(UserWarning, match="nothing can be held out"):
            assert splits.by_plate(table, max_folds=max_folds) == []
        return
    folds = splits.by_plate(table, max_folds=max_folds)
    assert_partition(folds, table["plate_id"])
    assert len(folds) == min(n_plates, max_folds or n_plates)
    if max_folds is None:
        assert [name for name, _ in folds] == sorted(table["plate_id"].unique())


def test_plates_of_one_class_are_held_out_in_sets():
    wells = make_profiles(plates={"HRCE": 5, "VERO": 2}).obs
    folds = splits.by_plate(wells, wells["cell_type"].to_numpy())
    assert len(folds) == 2
    assert_partition(folds, wells["plate_id"])
    for name, test in folds:
        assert set(wells["cell_type"][test]) == set(wells["cell_type"][~test]) == {"HRCE", "VERO"}
        assert set(name.split("+")) == set(wells["plate_id"][test])


def test_folds_that_lack_a_class_are_dropped_aloud():
    wells = make_profiles(plates={"HRCE": 3}).obs
    wells = wells[~((wells["plate_id"] == "HRCE-1_2") & (wells["role"] == "C+"))]
    with pytest.warns(UserWarning, match=r"1 of 3 folds .* dropped, a class of \['C\+', 'C-'\] .* HRCE-1_2"):
        folds = splits.by_plate(wells, wells["role"].to_numpy())
    assert [name for name, _ in folds] == ["HRCE-1_1", "HRCE-1_3"]


def test_compound_held_out_folds_share_no_compound():
    compounds = {name: (1.0, 1.0, 0.5) for name in ("a", "b", "c")}
    wells = make_profiles(roles={"C-": 2}, compounds=compounds).obs
    wells = wells[wells["role"] == "treated"]
    folds = splits.by_group(wells, "compound")
    assert [name for name, _ in folds] == ["a", "b", "c"]
    assert_partition(folds, wells["compound"])


def test_the_real_plate_map_splits_in_proportion(gandl_data):
    if gandl_data is None:  # conftest says so in the summary; the laws above have been tested on synthetic maps
        return
    wells = rxrx19a.parse(gandl_data / "rxrx19a" / "metadata.csv")
    test = splits.by_well(wells)
    one = wells.assign(test=test).drop_duplicates("well_id")
    share = one.groupby(["role", "plate_id"])["test"].agg(["mean", "size"])
    assert len(one) == 5360 and (np.abs(share["mean"] - 0.25) <= 1 / share["size"]).all()
    folds = splits.by_plate(wells, wells["role"].to_numpy())
    assert len(folds) == 4
    assert_partition(folds, wells["plate_id"])
