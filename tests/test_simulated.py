"""The simulated screen: its images are what its truth says, and nothing but the seed decides them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, label

from gandl_lib import files
from gandl_lib.datasets import open_layout, rxrx1, rxrx19a
from gandl_lib.simulate import cells
from gandl_lib.simulate import screens as simulated
from gandl_lib.simulate.screens import SCREENS, Screen, plan, render, simulate

SMALL = replace(
    SCREENS["tiny"],
    experiments=(("HRCE-1", 1), ("VERO-1", 2)),
    mock=2,
    uv=1,
    blank=1,
    untreated=2,
    compounds=2,
    doses_uM=(1.0, 100.0),
    replicates=1,
    sites=1,
    sirnas=2,
    sirna_wells=1,
    negative_controls=1,
)
STILL = replace(
    Screen(), density_sd=0, plate_gain_sd=0, well_gain_sd=0, background_sd=0, blur_sd=0, vignette=0, position=0,
    trait_sd=0, infected_sd=0, escaped=0,
)  # fmt: skip
"""A screen without any nuisance."""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def fields(cell_type: str, affected: float, stressed: float = 0.0, n: int = 6) -> np.ndarray:
    """(n, 5, 128, 128) light of fields that differ between calls in their phenotype alone."""
    morphology = cells.MORPHOLOGIES[cell_type]
    shift = 1.25 * np.array(morphology.infection)
    return np.stack(
        [cells.draw(np.random.default_rng(i), morphology, 45, 128, 1.3, shift, affected, stressed) for i in range(n)]
    )


def count_nuclei(image: np.ndarray) -> int:
    """Bright connected spots of a Hoechst image; 0 where nothing stands out from the noise."""
    smooth = gaussian_filter(image.astype(float), 1.0)
    return label(smooth > np.median(smooth) + 4)[1]


# ---- files ----


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:  # noqa: ANN001
    return simulate(tmp_path_factory.mktemp("simulated") / "small", SMALL, seed=3, jobs=1)


def test_workers_do_not_change_a_byte(small, tmp_path):
    assert contents(simulate(tmp_path / "two", SMALL, seed=3, jobs=2)) == contents(small)


def test_another_seed_is_another_screen(small, tmp_path):
    other = contents(simulate(tmp_path / "other", SMALL, seed=4, jobs=1))
    images = {name: png for name, png in contents(small).items() if name.endswith(".png")}
    assert not any(other.get(name) == png for name, png in images.items())


def test_an_interrupted_simulation_goes_on_to_the_same_bytes(small, tmp_path, monkeypatch):
    whole, out, write = contents(small), tmp_path / "killed", files.write
    left = 31  # inside a site: 1 record, 6 sites, none of a multiple of 5 channels

    def dies(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            path.with_name(path.name + ".partial").write_bytes(content[: len(content) // 2])
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(files, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        simulate(out, SMALL, seed=3, jobs=1)
    assert not (out / "metadata.csv").exists()
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    simulate(out, SMALL, seed=3, jobs=1)
    assert contents(out) == whole
    assert before and sum(path.stat().st_mtime_ns == time for path, time in before.items()) >= len(before) - 5


def test_the_loader_of_the_real_screen_reads_it_whole(small):
    metadata, truth, sites = plan(SMALL, seed=3)
    layout = open_layout(small)
    wells, skipped, _ = layout.wells()
    assert layout.name == "rxrx19a" and skipped.empty
    text = pd.read_csv(small / "metadata.csv", dtype=str, keep_default_na=False)
    assert list(text.columns) == [*rxrx19a.COLUMNS, "SMILES"]
    pd.testing.assert_frame_equal(text, metadata)
    for row, site in zip(wells.itertuples(), sites, strict=True):
        assert (row.site_id, row.well_id, row.plate_id) == (site.site_id, site.well_id, site.plate_id)
    np.testing.assert_array_equal(layout.read(wells.iloc[5]), render(SMALL, 3, sites[5]))
    pd.testing.assert_frame_equal(pd.read_csv(small / "truth.csv"), truth)
    assert ",".join(truth.columns) == "cell_type,compound,effective,ec50_uM,hill,emax,toxic_uM"
    record = json.loads((small / "simulation.json").read_text())
    assert record["simulated"] is True and record["seed"] == 3 and record["screen"]["image_px"] == 64


def test_rxrx1_has_four_unseen_cell_types_and_six_channels(tmp_path):
    out = simulate(tmp_path / "rxrx1", SMALL, seed=3, layout="rxrx1", jobs=1)
    wells, skipped, _ = open_layout(out).wells()
    assert open_layout(out).name == "rxrx1" and skipped.empty
    assert sorted(set(wells["cell_type"])) == ["HEPG2", "HUVEC", "RPE", "U2OS"]
    assert set(wells["role"]) == {"treated", "untreated"}
    assert len(list(out.rglob("*.png"))) == 6 * len(wells)
    # The loader's fifth channel is WGA: the same cells under RxRx19a's five stains, were there such a site.
    site = plan(SMALL, 3, layout="rxrx1")[2][0]
    six = render(SMALL, 3, site, "rxrx1")
    np.testing.assert_array_equal(rxrx1.read(out, wells.iloc[0]), six[[0, 1, 2, 3, 5]])


@pytest.mark.parametrize("name", SCREENS)
def test_presets_fit_their_plates_and_confound_position_as_the_real_screen_does(name):
    metadata, truth, _ = plan(SCREENS[name], seed=0)
    assert metadata["site_id"].is_unique
    wells = metadata.drop_duplicates("well_id")
    in_control_column = wells["well"].str[-2:].isin(["08", "16", "24", "32", "40"])
    assert (in_control_column == ~wells["disease_condition"].eq(simulated.ACTIVE)).all()
    per_plate = wells.groupby(["experiment", "plate"]).size()
    assert per_plate.nunique() == 1 and (name != "full" or (per_plate == 1340).all())
    assert wells[["cell_type", "experiment", "plate"]].drop_duplicates()["cell_type"].value_counts().min() >= 2
    assert truth["cell_type"].value_counts().min() >= 4
    assert truth.groupby("cell_type")["effective"].nunique().eq(2).all()
    inside = truth[truth["effective"]]
    assert inside["ec50_uM"].between(min(SCREENS[name].doses_uM), max(SCREENS[name].doses_uM)).all()


# ---- the images are what the truth says ----


@pytest.mark.parametrize("cell_type", ["HRCE", "VERO"])
def test_more_infected_cells_move_the_texture_one_way(cell_type):
    def fineness(stack: np.ndarray) -> float:
        """Share of the actin's variance on scales under about 3 pixels: closer fibres, more of it."""
        actin = stack[:, 2]
        return float((actin - gaussian_filter(actin, (0, 1.2, 1.2))).var() / actin.var())

    values = [fineness(fields(cell_type, affected)) for affected in (0, 0.25, 0.5, 0.75, 1)]
    assert np.all(np.diff(values) > 0), values


@pytest.mark.parametrize("cell_type", ["HRCE", "VERO"])
def test_infection_moves_light_and_neither_adds_nor_removes_any(cell_type):
    healthy, infected = fields(cell_type, 0.0), fields(cell_type, 1.0)
    np.testing.assert_allclose(infected.mean((2, 3)), healthy.mean((2, 3)), rtol=1e-3)
    np.testing.assert_array_equal(infected[:, 0], healthy[:, 0])  # the nuclei are untouched
    assert np.abs(infected[:, 1:] - healthy[:, 1:]).mean((0, 2, 3)).min() > 0.003
    blurred = [gaussian_filter(x, (0, 0, 0.6, 0.6)).std((0, 2, 3)) for x in (healthy, infected)]
    np.testing.assert_allclose(*blurred, rtol=0.06)


def test_the_microscope_sees_that_light_too():
    _, _, sites = plan(STILL, seed=0)
    infected = [site for site in sites if site.affected == STILL.infected][:8]
    means = [
        np.mean([render(STILL, 0, replace(site, affected=fraction)) for site in infected], axis=(0, 2, 3))
        for fraction in (0.0, 1.0)
    ]
    np.testing.assert_allclose(*means, rtol=0.01)


def test_a_toxic_dose_leaves_fewer_and_smaller_nuclei():
    metadata, truth, sites = plan(STILL, seed=0)
    toxic = truth.loc[truth["toxic_uM"].notna() & truth["cell_type"].eq("HRCE"), "compound"].iloc[0]
    rows = metadata[metadata["treatment"].eq(toxic) & metadata["cell_type"].eq("HRCE")]
    dose = rows["treatment_conc"].astype(float)
    dna = {d: [render(STILL, 0, sites[i])[0] for i in rows.index[dose == d]] for d in (dose.min(), dose.max())}
    low, high = (np.mean([count_nuclei(image) for image in images]) for images in dna.values())
    assert low > 30 and high < 0.6 * low
    whole, dying = (cells.draw(np.random.default_rng(0), cells.MORPHOLOGIES["HRCE"], 20, 128, 1.3, np.zeros(5), 0, s)[0]
                    for s in (0.0, 1.0))  # fmt: skip
    assert (dying > dying.max() / 4).sum() < 0.6 * (whole > whole.max() / 4).sum()


def test_efficacy_is_the_part_of_the_infection_that_is_gone():
    metadata, truth, sites = plan(Screen(), seed=0)
    known = truth[truth["effective"] & truth["toxic_uM"].isna()].iloc[0]
    of = metadata["treatment"].eq(known["compound"]) & metadata["cell_type"].eq(known["cell_type"])
    for i in metadata.index[of]:
        dose = float(metadata["treatment_conc"][i])
        efficacy = known["emax"] * dose ** known["hill"] / (known["ec50_uM"] ** known["hill"] + dose ** known["hill"])
        assert 1 - sites[i].affected / Screen().infected == pytest.approx(efficacy)


def test_blank_wells_have_no_nuclei_and_others_have():
    metadata, _, sites = plan(SCREENS["tiny"], seed=0)
    blank = metadata["disease_condition"].eq("")
    counts = [count_nuclei(render(SCREENS["tiny"], 0, sites[i])[0]) for i in [*metadata.index[blank], *range(8)]]
    assert set(counts[: blank.sum()]) == {0} and blank.sum() >= 4
    assert min(counts[blank.sum() :]) > 3


# ---- plate maps ----


def write_map(path: Path, rows: list[tuple[str, ...]]) -> Path:
    columns = [*rxrx19a.COLUMNS, "SMILES"]
    table = []
    for experiment, well, condition, compound, dose in rows:
        well_id = f"{experiment}_1_{well}"
        cell_type = experiment.partition("-")[0]
        table.append((f"{well_id}_1", well_id, cell_type, experiment, "1", well, "1", condition, compound, dose, "C"))
    pd.DataFrame(table, columns=columns).to_csv(path, index=False)
    return path


def test_a_plate_map_decides_its_cell_type_and_the_screen_adds_the_other(tmp_path, gandl_data):
    if gandl_data:
        plate_map, where = gandl_data / "rxrx19a" / "metadata.csv", "plate == 1"
    else:
        active = ("VERO-1", "B02", "Active SARS-CoV-2")
        rows = [("VERO-1", "B08", "Mock", "", ""), (*active, "Remdesivir (GS-5734)", "3.0"), (*active, "", "")]
        rows[2] = ("VERO-1", "B03", *rows[2][2:])
        plate_map, where = write_map(tmp_path / "map.csv", rows), None
    metadata, truth, sites = plan(SMALL, 0, plate_map, where)
    text = pd.read_csv(plate_map, dtype=str, keep_default_na=False)
    text = text[text["plate"].eq("1")].reset_index(drop=True)
    mapped = metadata["cell_type"].eq("VERO")
    pd.testing.assert_frame_equal(metadata[mapped], text)
    assert set(metadata["experiment"]) == {"HRCE-1", *text["experiment"]}
    assert len(sites) == len(metadata)
    remdesivir = truth.query("cell_type == 'VERO' and compound == 'Remdesivir (GS-5734)'")
    assert remdesivir["effective"].all() and len(remdesivir) == 1


def test_a_map_of_few_wells_becomes_images(tmp_path):
    plate_map = write_map(tmp_path / "map.csv", [("VERO-1", "B08", "Mock", "", ""), ("HRCE-1", "B02", "", "", "")])
    out = simulate(tmp_path / "out", SMALL, plate_map=plate_map, jobs=1)
    wells, _ = rxrx19a.wells(out)
    assert list(wells["role"]) == ["C+", "blank"]


# ---- bad input ----


def refused(*said: str):  # noqa: ANN201
    return pytest.raises(ValueError, match=".*".join(map(re.escape, said)))


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    with refused("unknown screen 'qiuck'", "tiny, quick, plate, full"):
        simulate(out, "qiuck")
    with refused("unknown layout 'rxrx3'", "rxrx19a, rxrx1"):
        simulate(out, SMALL, layout="rxrx3")
    with refused("HELA-1", "HRCE"):
        replace(SMALL, experiments=(("HELA-1", 1),))
    with refused("160", "150 places"):
        replace(SMALL, mock=158)
    with refused("1300 wells do not fit"):
        simulate(out, replace(SMALL, untreated=1296))
    with refused("HELA", "known are HRCE"):
        simulate(out, SMALL, plate_map=write_map(tmp_path / "map.csv", [("HELA-1", "B08", "Mock", "", "")]))
    with refused("plate == 1", "none is given"):
        simulate(out, SMALL, where="plate == 1")
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(small, tmp_path):
    before = contents(small)
    with refused("was begun with another", "seed"):
        simulate(small, SMALL, seed=9, jobs=1)
    assert contents(small) == before
    (tmp_path / "mine.txt").write_text("x")
    with refused("not empty", "simulation.json"):
        simulate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
