"""`gandl plan`: effects and intervals promised are those that simulated wells show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_profiles import make_profiles

from gandl_lib import profiles
from gandl_lib.cli import app
from gandl_lib.evaluate import callers, dose_response, hits
from gandl_lib.evaluate.planning import CURVES, HEADER, plan, smallest_effect, spread_evenly, spread_of


@pytest.mark.parametrize(("controls", "replicates", "level"), [(12, 3, 0.05), (6, 4, 0.05), (24, 4, 0.01)])
def test_the_smallest_effect_is_found_four_times_out_of_five_by_permutation(controls, replicates, level, monkeypatch):
    monkeypatch.setattr(hits, "PERMUTATIONS", 399)
    rng, spread, times = np.random.default_rng(controls), 0.4, 300
    unseen, wells = spread_evenly(controls, 2), spread_evenly(replicates, 2)
    effect = smallest_effect(spread, wells, unseen, level)
    arm = np.r_[np.arange(replicates) % 2, np.arange(controls) % 2]
    found = {0.0: 0, effect: 0}
    for share in found:
        for _ in range(times):
            x = spread * rng.standard_normal(len(arm))
            x[:replicates] += 2 * share
            draws, _ = hits._labellings(arm, replicates, rng)
            scores = callers.mean(x, arm, draws)
            found[share] += np.mean(scores >= scores[0] - 1e-12) <= level
    low, high = stats.binom.interval(0.999, times, 0.8)
    assert low - 15 <= found[effect] <= high + 15  # the two tests differ by a few per cent
    assert found[0.0] <= stats.binom.ppf(0.999, times, level)


def test_the_spread_is_that_between_wells():
    """Wells scatter by 1 across the axis, sites by 0.5, and the controls are 6 apart, which the axis calls 2."""
    p = make_profiles(plates={"HRCE": 3}, roles={"C+": 60, "C-": 60}, n_features=4, plate_effect=0)
    assert spread_of(p) == pytest.approx(np.sqrt(1 + 0.5**2 / 2) / 3, rel=0.2)
    few = make_profiles(plates={"HRCE": 1}, roles={"C+": 4, "C-": 4})
    with pytest.raises(ValueError, match="cannot be told from 1 C- wells .* Give --spread instead"):
        spread_of(few)
    blind = p.copy()
    blind.X = np.random.default_rng(1).normal(size=p.shape).astype(np.float32)  # alike; one draw in three is in order
    with pytest.raises(ValueError, match="has no scale.*do not come in order"):
        spread_of(blind)


def test_more_of_everything_shows_smaller_effects_and_few_controls_none():
    table = plan(0.2, controls=(2, 16, 32), replicates=(1, 2, 3, 4), plates=2, compounds=10).set_index(
        ["controls", "replicates"]
    )
    assert list(table.reset_index()[list(HEADER)]) == list(HEADER)
    effect = table["smallest_effect"].unstack()
    assert np.isnan(effect.loc[2, 1]) and table.loc[(2, 1), "p_floor"] == 0.5
    assert "no p below 0.5" in table.loc[(2, 1), "reason"]
    assert effect.loc[32, 3] < effect.loc[16, 3] and effect.loc[32, 3] < effect.loc[32, 2]
    assert table.loc[(32, 4), "smallest_effect_of_all"] > effect.loc[32, 4]
    assert "cannot be told" in table.loc[(16, 2), "reason"] and np.isnan(table.loc[(16, 2), "smallest_effect_of_all"])
    assert table.loc[(16, 3), "ec50_interval_fold"] < table.loc[(16, 1), "ec50_interval_fold"]
    twice = plan(0.4, controls=(32,), replicates=(3,), plates=2, compounds=10)
    assert twice["smallest_effect"].item() == pytest.approx(2 * effect.loc[32, 3])
    assert plan(0.4, controls=(8,), doses=3)["ec50_given"].isna().all(), "three doses make no curve"


def test_errors_of_ec50_are_those_of_wells_on_the_axis():
    """The promise for a spread against curves fitted to synthetic profiles of the same spread, the whole way."""
    doses = tuple(np.geomspace(0.1, 100, 7))
    ec50 = {f"c{k}": (float(e), 1.0, 1.0) for k, e in enumerate(np.geomspace(1, 10, 20))}
    p = make_profiles(
        plates={"HRCE": 3}, roles={"C+": 24, "C-": 24}, compounds=ec50, doses=doses, n_features=4, separation=14.0
    )
    curves = dose_response.dose_response(p)
    promised = plan(spread_of(p), controls=(24,), replicates=(3,), plates=3).iloc[0]
    assert curves["ec50_uM"].notna().mean() >= promised["ec50_given"] - 0.3
    true = curves["compound"].map({name: about[0] for name, about in ec50.items()})
    error = np.exp(np.abs(np.log(curves["ec50_uM"] / true)).median())
    assert np.log(promised["ec50_error_fold"]) / 2.5 < np.log(error) < 2.5 * np.log(promised["ec50_error_fold"])
    assert CURVES >= 100


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"spread": 0.0}, "spread must be above 0"), ({"plates": 0}, "must be 1 or more"), ({"controls": ()}, "1 or more"),
     ({"lowest_uM": 5.0, "highest_uM": 1.0}, "found 5.0 to 1.0 uM")],
)  # fmt: skip
def test_designs_that_nobody_can_have_are_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        plan(**{"spread": 0.4} | bad)


def test_the_command_reads_the_spread_from_profiles(tmp_path, capsys):
    p = make_profiles(plates={"HRCE": 2}, roles={"C+": 16, "C-": 16})
    profiles.write(p, tmp_path / "p.h5ad")
    small = ["--controls", "8", "--replicates", "2"]
    app.cli(args=["plan", str(tmp_path / "plan.csv"), "--profiles", str(tmp_path / "p.h5ad"), *small])
    table = pd.read_csv(tmp_path / "plan.csv")
    assert table["spread"].item() == pytest.approx(spread_of(p)) and "smallest_effect" in capsys.readouterr().out
    with pytest.raises(ValueError, match="give either --profiles"):
        app.cli(args=["plan", str(tmp_path / "plan.csv")])
