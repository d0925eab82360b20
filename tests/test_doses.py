"""One dilution series, however its tables were rounded, is one; two doses of one plate stay two."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_profiles import make_profiles

from gandl_lib.evaluate.dose_response import dose_response
from gandl_lib.evaluate.replicates import replicates
from gandl_lib.profiles import by_method
from gandl_lib.wells import merge_doses


def table(plates: dict[str, list[float]], compound: str = "x") -> pd.DataFrame:
    rows = [(compound, dose, plate) for plate, doses in plates.items() for dose in doses]
    return pd.DataFrame(rows, columns=["compound", "concentration_uM", "plate_id"])


def rounded(dose: float, digits: int) -> float:
    return float(f"{dose:.{digits - 1}e}")


@settings(max_examples=200)
@given(
    top=st.floats(1e-3, 1e3),
    step=st.floats(1.3, 10),
    digits=st.lists(st.integers(2, 6), min_size=2, max_size=5),
    as_text=st.booleans(),
)
def test_a_series_rounded_anyhow_keeps_its_doses(top, step, digits, as_text):
    series = [top / step**k for k in range(8)]
    written = {f"P{i}": [rounded(d, n) for d in series] for i, n in enumerate(digits)}
    wells = table(written | {"exact": series})
    if as_text:  # out of a CSV file, as a loader reads it
        wells["concentration_uM"] = wells["concentration_uM"].map("{:.12g}".format).astype(float)
    merged, said = merge_doses(wells)
    assert merged["concentration_uM"].nunique() == 8
    np.testing.assert_allclose(merged["concentration_uM"].to_numpy().reshape(-1, 8), [series] * (len(digits) + 1))
    different = sum(len({*w}) > 1 for w in zip(*wells.groupby("plate_id")["concentration_uM"].agg(list), strict=True))
    assert len(said) == different, "what was merged is said, and nothing else"


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from("ABCD"), st.lists(st.floats(1, 1.2), min_size=1, max_size=6), min_size=1))
def test_two_doses_of_one_plate_never_merge(plates):
    wells = table(plates)
    merged, said = merge_doses(wells)
    for plate in plates:
        on = wells["plate_id"] == plate
        assert merged.loc[on, "concentration_uM"].nunique() == wells.loc[on, "concentration_uM"].nunique()
    ratio = merged["concentration_uM"] / wells["concentration_uM"]
    assert ratio.between(1 / 1.05 - 1e-9, 1.05 + 1e-9).all()
    assert set(merged["concentration_uM"]) <= set(wells["concentration_uM"])
    assert len(said) == 0 or (merged["concentration_uM"] != wells["concentration_uM"]).any()


@pytest.mark.parametrize(
    ("a", "b", "one"),
    [(1.0, 1.019, True), (3.33, 3.3333333, True), (0.12, 0.12345679, True), (0.014, 0.0137174, True),
     (1.234, 1.271, False), (1.0, 1.06, False), (10.0, 12.5, False)],
)  # fmt: skip
def test_how_far_apart_is_one_dose(a, b, one):
    assert merge_doses(table({"P1": [a], "P2": [b]}))[0]["concentration_uM"].nunique() == 2 - one


def test_compounds_and_wells_without_dose_are_left_alone():
    wells = pd.concat([table({"P1": [1.0]}, "x"), table({"P2": [1.001]}, "y"), table({"P1": [np.nan]}, "")])
    merged, said = merge_doses(wells)
    assert merged is wells and said.empty


def test_what_was_merged_is_told():
    wells = table({"P1": [3.3333333, 10.0], "P2": [3.3333, 10.0], "P3": [3.33, 10.0]})
    assert merge_doses(wells)[1].to_numpy().tolist() == [["x", 3.3333333, "3.33, 3.3333, 3.3333333"]]


def test_a_screen_with_rounded_plates_has_the_same_curves_and_replicates():
    series = tuple(30 / 3**k for k in range(8))
    compounds = {"cure": (0.5, 1.5, 0.9), "inert": (1.0, 1.0, -1.0)}
    exact = make_profiles(plates={"HRCE": 3}, compounds=compounds, doses=series, separation=10)
    other = exact.copy()
    plate = exact.obs["plate"].to_numpy()
    for k, digits in ((2, 4), (3, 3)):
        rows = (plate == k) & exact.obs["concentration_uM"].notna().to_numpy()
        other.obs.loc[rows, "concentration_uM"] = [rounded(d, digits) for d in exact.obs["concentration_uM"][rows]]
    assert other.obs["concentration_uM"].nunique() > 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = dose_response(exact), replicates(exact)  # nothing to merge, nothing said
    for judge, table in zip((dose_response, replicates), expected, strict=True):
        with pytest.warns(UserWarning, match=r"dose\(s\) of 2 compound\(s\) are written in more than one way"):
            found = judge(other)
        pd.testing.assert_frame_equal(found, table)


def test_one_and_the_same_warning_for_all_methods():
    wells = {"compounds": {"cure": (0.5, 1.5, 0.9)}, "plates": {"HRCE": 2}}
    several = [make_profiles(name, **wells) for name in "ab"]
    for p in several:
        p.obs["concentration_uM"] *= np.where(p.obs["plate"] == 2, 1.004, 1.0)
    with pytest.warns(UserWarning) as said:
        named = by_method(several, ())
    assert all(p.obs["concentration_uM"].nunique() == 8 for p in named.values())
    assert len({str(one.message) for one in said}) == 1
