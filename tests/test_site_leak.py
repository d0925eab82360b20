"""The leak test for the place within a well: found where it is, and not where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_profiles import make_profiles

from gandl_lib.evaluate import leaks


def test_a_site_that_shows_is_found_and_one_that_does_not_is_not():
    profiles = make_profiles(plates={"VERO": 2}, roles={"C+": 30, "C-": 30}, sites=4)
    blind = leaks.sites([profiles])
    assert blind["ci_low"].item() <= 0.5 and blind["accuracy"].item() < 0.65
    knowing = profiles.copy()
    knowing.X = (
        profiles.X + 3 * (profiles.obs["site"].astype(int).to_numpy() == 1)[:, None] * np.eye(profiles.n_vars)[0]
    )
    seen = leaks.sites([knowing])
    assert seen["accuracy"].item() > 0.8 and seen["ci_low"].item() > 0.6
    assert seen["task"].unique().tolist() == [leaks.SITE]
    assert seen["majority_rate"].item() == pytest.approx(0.5)


def test_wells_equally_far_out_have_no_edge_and_no_inside():
    profiles = make_profiles(plates={"VERO": 1}, roles={"C+": 8, "C-": 8}, sites=1)
    negative = (profiles.obs["role"] == "C-").to_numpy()
    rows = profiles.obs["well"].str[:2].where(~negative, "AA")
    profiles.obs["well"] = rows + profiles.obs["well"].str[2:]
    profiles.obs.loc[~negative, "well"] = [f"B{k:02d}" for k in range(10, 10 + (~negative).sum())]
    assert leaks.zones([profiles]).empty  # all C- in the top row
    profiles.obs.loc[negative, "role"] = "untreated"
    assert leaks.zones([profiles]).empty


def test_wells_of_one_site_have_nothing_to_tell_apart():
    single = make_profiles(plates={"VERO": 1}, roles={"C+": 8, "C-": 8}, sites=1)
    of_wells = single.copy()
    del of_wells.obs["site"]
    for profiles in (single, of_wells):
        assert leaks.sites([profiles]).empty
    several = make_profiles("other", plates={"VERO": 1}, roles={"C+": 8, "C-": 8}, sites=2)
    assert leaks.sites([single, several])["method"].tolist() == ["other"]
