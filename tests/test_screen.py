"""`gandl screen`: from a folder to a report, whatever the screen has; and what it says where it cannot."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from gandl_book import figures, narrate
from PIL import Image
from plates import small, without_controls
from scipy import ndimage

from gandl_lib import explain, profiles
from gandl_lib.evaluate import bootstrap
from gandl_lib.plots import sentences as narrate_sentences
from gandl_lib.screen import quality, report, strip
from gandl_lib.screen import run as screen
from gandl_lib.shards import Shards

EVIL = '<script>alert("x")</script> & $\\frac{1$ 薬'


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    be_tiny(monkeypatch)


def be_tiny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(screen, "PRESET", "tiny")
    patch.setattr(screen, "WAYS", 1)
    patch.setattr(strip, "IMAGES", 8)
    patch.setattr(strip, "INVERTED", 4)
    patch.setattr(explain, "N_STYLES", 200)
    patch.setattr(explain, "invert", partial(explain.invert, steps=10))
    patch.setattr(explain, "bootstrap", SimpleNamespace(interval=partial(bootstrap.interval, n_bootstrap=50)))
    crops = explain.real_crops
    patch.setattr(explain, "real_crops", lambda *some, **options: [x[::4] for x in crops(*some, **options)])


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The results of one run over a plate, one of whose compounds has a name that is code."""
    folder = tmp_path_factory.mktemp("screen")
    data = small(folder / "data")
    table = (data / "metadata.csv").read_text(encoding="utf-8-sig").replace("sim-antiviral-01", EVIL.replace('"', "'"))
    (data / "metadata.csv").write_text(table, encoding="utf-8-sig")
    with pytest.MonkeyPatch.context() as patch:
        be_tiny(patch)
        screen.screen(data, folder / "out", images=32)
    return folder / "out"


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


# ---- what comes out ----

HEADERS = {
    "separability": "method,task,split,normalisation,accuracy,ci_low,ci_high,balanced_accuracy,auroc,majority_rate,"
    "n_train_wells,n_test_wells",
    "dose_response": "method,cell_type,compound,ec50_uM,ec50_low,ec50_high,hill,emax,efficacy_max,p_value,q_value,hit,"
    "toxic_from_uM,n_wells",
    "controls": ",".join(quality.CONTROLS_HEADER),
    "edge_effects": ",".join(quality.EDGES_HEADER),
}


def test_tables_profiles_and_provenance(done):
    tables = report.read_tables(done)
    for name, header in HEADERS.items():
        assert list(tables[name].columns)[: header.count(",") + 1] == header.split(","), name
        assert len(tables[name]), name
    assert set(tables["separability"]["method"]) == {"gandl", "gandl-random", "texture", "intensity", "shuffled labels"}
    wells = profiles.read(done / "profiles.h5ad")
    assert wells.n_obs == len(tables["wells"]) == Shards(done / "screen.zarr").wells["well_id"].nunique()
    for _, rows in wells.obs.groupby("plate_id").indices.items():
        varied = wells.X[rows].std(axis=0) > 0
        np.testing.assert_allclose(wells.X[rows].mean(axis=0)[varied], 0, atol=1e-4)
    assert len(tables["skipped"]) == 3
    made = json.loads((done / "provenance.json").read_text())
    assert set(made["methods"]) == {"gandl", "gandl-random", "texture", "intensity"} and made["sha256"]["wells.csv"]
    assert not list(done.rglob("*.partial"))


def test_the_report_is_one_safe_page(done):
    text = (done / "report.html").read_text()
    page = BeautifulSoup(text, "html.parser")
    assert not page.find_all(["link", "iframe", "object"])
    assert [script.attrs for script in page.find_all("script")] == [{}], "our own, inside the page"
    assert EVIL.replace('"', "'") in page.get_text(), "the compound's name is there as text"
    for tag in page.find_all(True):
        assert not any(a.startswith("on") for a in tag.attrs), tag
        for attribute in ("src", "href"):
            kinds = ("#", "data:image/png;base64,", "data:image/jpeg;base64,", "data:text/csv;base64,")
            assert tag.get(attribute, "#").startswith(kinds), tag
    images = page.select("img, svg")
    said = [image.get("alt") or image["aria-label"] for image in images]
    assert len(images) >= 8 and all(len(text.split()) > 3 and len(text) <= 300 for text in said)
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert page.find("main") and all(th.get("scope") == "col" and th.text for th in page.find_all("th"))
    levels = [int(h.name[1]) for h in page.find_all(["h1", "h2", "h3"])]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert page.html["lang"] == "en" and page.title.text == "Screen of 2 plates, data"
    heads = [h.text for h in page.find_all("h2")]
    assert heads[0] == "In short" and "What to distrust" in heads
    for link in page.select("nav a"):
        assert page.find(id=link["href"][1:])
    assert "simulated" in page.get_text().lower()


def test_every_well_answers_with_its_picture(done):
    page = BeautifulSoup((done / "report.html").read_text(), "html.parser")
    wells = report.read_tables(done)["wells"]
    (first, *_) = page.select("svg[data-sheet]")
    plate = wells[wells["plate_id"] == wells["plate_id"].iloc[0]]
    marks = first.select("[data-mark]")
    assert [m.title.text.split(":")[0] for m in marks] == list(plate["well"])
    picture = page.find(id=first["data-sheet"])
    size = Image.open(io.BytesIO(base64.b64decode(picture["src"].split("base64,")[1]))).size
    for mark in marks:
        left, top, side = map(int, mark["data-at"].split())
        assert 0 <= left <= size[0] - side and 0 <= top <= size[1] - side
    assert {m["data-at"] for m in marks} == {m["data-at"] for m in marks} and len({m["data-at"] for m in marks}) == len(
        marks
    )


def test_tables_inside_the_page_are_the_tables_beside_it(done):
    page = BeautifulSoup((done / "report.html").read_text(), "html.parser")
    links = {a["download"]: a["href"].partition("base64,")[2] for a in page.select("a[download]")}
    assert {"dose_response.csv", "wells.csv"} <= set(links)
    for name, data in links.items():
        assert base64.b64decode(data) == (done / name).read_bytes()


def shown_strip(out: Path) -> tuple[str, BeautifulSoup]:
    """What the report of a folder says and shows of cells moved along the axis."""
    made = json.loads((out / "provenance.json").read_text())
    blocks = list(report._strip(report.read_tables(out), Shards(out / "screen.zarr"), made, out))
    text = " ".join(str(getattr(b.content, "bundle", {}).get("text/plain") or b.content) for b in blocks)
    return text, BeautifulSoup(text, "html.parser")


def test_cells_moved_along_the_axis_stand_beside_the_controls(done):
    found, page = strip.read(done), BeautifulSoup((done / "report.html").read_text(), "html.parser")
    section = page.find(id="controls").parent
    assert "Cells from C- to C+" in [h.text for h in section.find_all("h3")]
    text = " ".join(section.get_text().split())
    for what in ("generated", "inverted"):
        row = found.moves.set_index("what").loc[what]
        assert f"(from {row['score_before']:.2f} to {row['score_after']:.2f})" in text
    assert "dropped in training shows nowhere" in text and "has seen 32 crops" in text
    channels = Shards(done / "screen.zarr").channels
    drawn, real = found.groups["drawn"], found.real
    assert drawn.shape == (3, 5, len(channels), 32, 32) and real.shape[1:] == drawn.shape[2:]
    assert len(found.groups["redrawn"]) == len(real) and not np.array_equal(drawn[:, 0], drawn[:, -1])
    said = [image["alt"] for image in section.find_all("img")]
    assert sum("moved along the axis" in alt and ", ".join(channels) in alt for alt in said) == 3
    sure = found.effects[found.effects["what"].isin(["real", "generated"])]
    sure = sure[(sure["low"] > 0) | (sure["high"] < 0)]["measure"].nunique()
    table = next(t for t in section.find_all("table") if "control direction" in t.get_text())
    assert len(table.find_all("tr")) == 1 + sure
    assert {"axis_effects.csv", "axis_moves.csv"} <= set(
        json.loads((done / "provenance.json").read_text())["sha256"]
    ) and not (done / "axis.partial").exists()


@pytest.mark.parametrize(
    ("what", "why"),
    [("noise", "has no scale"), ("stain", "a channel called Hoechst; there are DNA"), ("still", "do not move along")],
)
def test_why_no_cells_are_moved_is_said(done, tmp_path, monkeypatch, what, why):
    out, embedded = tmp_path / "out", profiles.read(done / "embeddings" / "gandl.h5ad")
    for name in ("controls.csv", "provenance.json"):
        files_of(out, name, (done / name).read_bytes())
    if what == "noise":
        embedded.X = np.random.default_rng(0).standard_normal(embedded.shape).astype(np.float32)
    elif what == "stain":
        monkeypatch.setattr(explain.cells, "NUCLEUS", "Hoechst")
    else:
        monkeypatch.setattr(explain, "score", lambda method, axis, images: np.zeros(len(images)))
    shards = Shards(done / "screen.zarr")
    strip.make(done / "run", shards, embedded, out)
    assert why in strip.read(out).why_not and not list(out.glob("axis*"))
    (out / "screen.zarr").symlink_to(done / "screen.zarr")
    text, page = shown_strip(out)
    assert f"No cells moved along the axis can be shown: {strip.read(out).why_not}" in text and not page.find("img")
    monkeypatch.setattr(explain, "explain", None)  # and not asked again
    strip.make(done / "run", shards, embedded, out)


def test_of_a_network_that_was_brought_along_no_cells_are_shown(tmp_path, done):
    tables, borrowed = report.read_tables(done), {"begun": {"weights": "0123"}}
    heading, text = report._strip(tables, None, borrowed, tmp_path)
    assert heading.kind == "heading" and "The network was brought along" in text.content
    assert not list(report._strip(tables | {"controls": tables["controls"][:0]}, None, borrowed, tmp_path))


def test_without_both_controls_no_cells_are_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(explain, "explain", None)
    pd.DataFrame(columns=quality.CONTROLS_HEADER).to_csv(tmp_path / "controls.csv", index=False)
    strip.make("run", None, None, tmp_path)
    assert strip.read(tmp_path) is None


def test_parts_of_another_strip_are_refused_and_not_taken_for_a_reason(done, tmp_path):
    files_of(tmp_path, "controls.csv", (done / "controls.csv").read_bytes())
    files_of(tmp_path / "axis.partial", explain.RECORD, b'{"seed": 1}')
    embedded = profiles.read(done / "embeddings" / "gandl.h5ad")
    with pytest.raises(ValueError, match="was begun with another .* remove this one"):
        strip.make(done / "run", Shards(done / "screen.zarr"), embedded, tmp_path)
    assert strip.read(tmp_path) is None


def files_of(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


class Noise:
    """As much of a store as `quality.pictures` asks for: 20 wells of one site, noise of two channels, 12 bit."""

    channels = ("DNA", "ER")
    wells = pd.DataFrame({"well": [f"A{k:02d}" for k in range(1, 21)], "plate_id": "P", "role": "treated"})
    wells["well_id"] = "P_" + wells["well"]

    def read(self, i: int) -> np.ndarray:
        image = np.random.default_rng(i).integers(100, 3000, (2, 40, 40)).astype(np.uint16)
        image[:, 3, 3] = 4095  # a pixel or two of dirt is not saturation
        if i == 5:
            image[1] = ndimage.gaussian_filter(image[1].astype(float), 3).astype(np.uint16)
            image[0, :9] = 4095
        return image


def test_blurred_and_saturated_wells_are_named():
    table = quality.pictures(Noise())
    assert list(table) == list(quality.PICTURES_HEADER) and len(table) == 40
    doubts = table[table["doubt"] != ""].set_index(["well", "channel"])["doubt"].to_dict()
    assert set(doubts) == {("A06", "DNA"), ("A06", "ER")}
    assert doubts["A06", "DNA"].endswith("saturated") and doubts["A06", "ER"] == "out of focus"
    assert table.loc[(table["well"] == "A06") & (table["channel"] == "DNA"), "saturated"].iloc[0] == pytest.approx(
        9 / 40
    )
    assert "A06 of P (ER)" in repr(narrate_sentences.picture_doubts(table))


def test_focus_does_not_depend_on_gain(rng):
    x = rng.random((2, 20, 20)).astype(np.float32)
    np.testing.assert_allclose(quality.sharpness(x), quality.sharpness(40 * x + 7), rtol=1e-3)
    assert (quality.sharpness(np.ones((1, 9, 9), np.float32)) == 0).all()


def test_the_same_command_again_changes_nothing(done):
    before, begun = files(done), (done / "embeddings" / "gandl.h5ad").stat().st_mtime_ns
    screen.screen(done.parent / "data", done, images=32)
    assert files(done) == before
    assert (done / "embeddings" / "gandl.h5ad").stat().st_mtime_ns == begun


def test_a_table_that_was_removed_is_made_again(done):
    names = ("controls.csv", "axis_moves.csv")
    before = [(done / name).read_bytes() for name in names]
    for name in names:
        (done / name).unlink()
    screen.screen(done.parent / "data", done, images=32)
    assert [(done / name).read_bytes() for name in names] == before


def test_other_options_need_another_folder(done):
    with pytest.raises(ValueError, match="begun with another seed"):
        screen.screen(done.parent / "data", done, images=32, seed=1)
    with pytest.raises(ValueError, match="not empty and holds no begun.json"):
        screen.screen(done.parent / "data", done.parent, images=32)


def test_changed_images_need_another_folder(done):
    path = next((done.parent / "data" / "images").rglob("*.tif"))
    before = path.stat()
    os.utime(path, (1, 1))
    try:
        with pytest.raises(ValueError, match="begun with another data"):
            screen.screen(done.parent / "data", done, images=32)
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---- screens that lack something ----


def _run(data: Path, out: Path) -> tuple[dict[str, pd.DataFrame], str]:
    screen.screen(data, out, images=32)
    return report.read_tables(out), BeautifulSoup((out / "report.html").read_text(), "html.parser").get_text()


def test_without_controls_the_rest_is_delivered(tmp_path):
    tables, text = _run(without_controls(small(tmp_path / "d", control=None)), tmp_path / "o")
    assert {"wells", "edge_effects"} <= set(tables) and not {"efficacy", "controls", "dose_response"} & set(tables)
    assert "at least 4 wells of C+ and of C-" in text and "cannot be judged" in text
    assert (tmp_path / "o" / "profiles.h5ad").exists()
    before = files(tmp_path / "o")
    screen.screen(tmp_path / "d", tmp_path / "o", images=32)
    assert files(tmp_path / "o") == before


def test_without_doses_hits_are_judged_by_their_mean(tmp_path):
    tables, text = _run(small(tmp_path / "d", concentration=None), tmp_path / "o")
    assert tables["dose_response"]["n_doses"].eq(0).all() and tables["dose_response"]["ec50_uM"].isna().all()
    assert tables["dose_response"]["p_value"].notna().any() and "dose_points" not in tables
    assert "No compound has a concentration" in text


def test_known_channels_are_embedded_with_the_shipped_network(make_screen, tmp_path):
    data = make_screen(size=(80, 80), wells=40, sites=1)
    tables, text = _run(data, tmp_path / "o")
    made = json.loads((tmp_path / "o" / "provenance.json").read_text())
    assert made["methods"]["gandl"]["checkpoint"] == "gandl-quick32.safetensors"
    assert not (tmp_path / "o" / "run").exists() and made["methods"]["gandl-random"]["n_seen"] == 0
    assert "has never seen a real cell" in text  # noise in the real layout is "real"
    assert "axis_effects" not in tables
    assert set(tables["dose_response"]["n_doses"]) == {1}


def test_a_network_that_would_see_too_little_is_not_chosen():
    channels = ("DNA", "ER", "actin", "RNA", "golgi")
    assert screen._network(None, False, channels, (5, 64, 64), 0.65).name == "gandl-quick32.safetensors"
    for other in ((channels, (5, 40, 40), 0.65), (channels[:4], (4, 64, 64), 0.65), (channels[::-1], (5, 64, 64), 1)):
        assert screen._network(None, False, *other) is None
    assert screen._network(None, True, channels, (5, 64, 64), 0.65) is None


# ---- before anything happens ----


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    data = small(tmp_path / "d")
    before = sorted(tmp_path.rglob("*"))
    assert screen.screen(data, tmp_path / "o", dry_run=True) is None
    assert sorted(tmp_path.rglob("*")) == before
    said = capsys.readouterr().out
    assert "Left out, 3 site(s)" in said and "is truncated" in said and "a network is trained" in said


def test_without_a_description_a_draft_is_given(tmp_path):
    data = small(tmp_path / "d")
    (data / "screen.toml").unlink()
    with pytest.raises(ValueError, match=r'(?s)first draft of screen.toml.*plate = "Platte"|plate = '):
        screen.screen(data, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_results_do_not_go_into_the_data(tmp_path):
    data = small(tmp_path / "d")
    with pytest.raises(ValueError, match="a folder of their own"):
        screen.screen(data, data / "out")


def test_weights_of_other_channels_are_refused(tmp_path):
    weights = screen.SHIPPED / "gandl-quick32.safetensors"
    with pytest.raises(ValueError, match=r"knows 5 channels \(DNA, ER.*these images have 4: DNA, mito"):
        screen.screen(small(tmp_path / "d"), tmp_path / "o", weights=weights)


def test_small_pixels_and_thin_designs_are_odd():
    rows = [(f"P_A{k:02d}", "P", f"A{k:02d}", "treated", "x", 1.0, "cells") for k in (1, 2)]
    columns = ["well_id", "plate_id", "well", "role", "compound", "concentration_uM", "cell_type"]
    odd = screen._design(pd.DataFrame(rows, columns=columns), 0.2, (1, 64, 64))["what"].str.cat(sep="; ")
    for word in ("positive controls", "negative controls", "fewer than 4 doses", "one plate only", "bin = 6"):
        assert word in odd
    with pytest.raises(ValueError, match="too small"):
        screen._design(pd.DataFrame(rows, columns=columns), 1.0, (1, 16, 64))


# ---- full disks and folders that cannot be written ----


def _command(*arguments: str, prefix: str = "") -> subprocess.CompletedProcess:
    command = f"{prefix} exec {sys.executable} -m gandl_lib.cli screen {' '.join(arguments)}"
    environment = os.environ | {"PYTHONPATH": str(Path(screen.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)


def test_a_full_disk_is_one_line_and_the_command_goes_on(tmp_path):
    """No file may grow beyond 40 KiB: the network's weights cannot be written."""
    data, out = small(tmp_path / "d"), tmp_path / "o"
    run = _command(str(data), "--out", str(out), "--images", "32", prefix="ulimit -f 40;")
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "gandl: " in run.stderr and "cannot write" in run.stderr
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("out", ["/proc/nowhere", "/dev/null/x"])
def test_a_folder_that_cannot_be_made(tmp_path, out, capsys):
    with pytest.raises(OSError):
        screen.screen(small(tmp_path / "d"), Path(out), images=32)


# ---- how good is it ----


def test_ssmd_z_prime_and_auroc_by_hand():
    p, n = np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0])
    assert quality.ssmd(p, n) == pytest.approx(3 / np.sqrt(2))
    assert quality.z_prime(p, n) == pytest.approx(1 - 3 * 2 / 3)
    assert quality.auroc(p, n) == 1.0 and quality.auroc(n, p) == 0.0
    assert quality.auroc(p, p) == 0.5 and quality.z_prime(p, p) == -np.inf
    assert np.isnan(quality.ssmd(np.ones(3), np.zeros(3)))


def test_an_auroc_is_the_share_of_ordered_pairs(rng):
    p, n = rng.integers(0, 5, 30), rng.integers(0, 4, 20)
    slow = np.mean([(a > b) + 0.5 * (a == b) for a in p for b in n])
    assert quality.auroc(p, n) == pytest.approx(slow)


def test_controls_per_plate_and_over_all(rng):
    rows = []
    for plate in "PQ":
        for role, mean in (("C+", 1.0), ("C-", -1.0), ("treated", 0.0)):
            rows += [("m", "cells", plate, role, x, "test") for x in rng.normal(mean, 0.3, 10)]
        rows.append(("m", "cells", plate, "C-", 99.0, "reference"))  # set the zero of a plate; not counted
    columns = ["method", "cell_type", "plate_id", "role", "efficacy", "split"]
    table = quality.controls(pd.DataFrame(rows, columns=columns)).set_index("plate_id")
    assert list(table.index) == [quality.ALL, "P", "Q"] and table["n_negative"].tolist() == [20, 10, 10]
    assert (table["ssmd_low"] < table["ssmd"]).all() and (table["ssmd"] < table["ssmd_high"]).all()
    assert table.loc[quality.ALL, "ssmd"] == pytest.approx(2 / (0.3 * np.sqrt(2)), rel=0.3)


def _wells(value, roles=None) -> pd.DataFrame:
    names = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    role = roles or (lambda row, column: "treated")
    at = [(ord(n[0]) - 65, int(n[1:]) - 1) for n in names]
    return pd.DataFrame({"plate_id": "P", "well": names, "role": [role(*a) for a in at], "x": [value(*a) for a in at]})


def test_an_edge_is_found_and_none_is_invented(rng):
    edge = lambda r, c: r in (0, 7) or c in (0, 11)  # noqa: E731
    noise = rng.normal(size=(8, 12))
    (dark,) = quality.edges(_wells(lambda r, c: noise[r, c] - 2 * edge(r, c)), ["x"]).itertuples()
    assert dark.n_edge == 36 and dark.n_inside == 60 and dark.p_value < 1e-6
    assert dark.edge_difference_sd == pytest.approx(-2, abs=0.5)
    (even,) = quality.edges(_wells(lambda r, c: noise[r, c]), ["x"]).itertuples()
    assert even.p_value > 0.01 and abs(even.edge_difference_sd) < 0.5
    (slope,) = quality.edges(_wells(lambda r, c: c + 0.1 * noise[r, c]), ["x"]).itertuples()
    assert slope.column_trend > 0.95 and abs(slope.row_trend) < 0.2


def test_controls_at_the_edge_are_no_edge_effect(rng):
    """All outer columns hold a control that is brighter by design."""
    noise = rng.normal(size=(8, 12))
    roles = lambda r, c: "C+" if c in (0, 11) else "treated"  # noqa: E731
    table = quality.edges(_wells(lambda r, c: noise[r, c] + 9 * (c in (0, 11)), roles), ["x"])
    assert table["p_value"].item() > 0.01


def test_few_wells_or_equal_values_are_not_judged():
    table = quality.edges(_wells(lambda r, c: 1.0), ["x"])
    assert table["p_value"].isna().all()
    assert quality.edges(_wells(lambda r, c: np.nan), ["x"])["p_value"].isna().all()


def _tables(ratio: float) -> dict[str, pd.DataFrame]:
    """Two compounds, one of which has that part of the controls' brightness at its best dose."""
    rows = [("C-", "", np.nan, -1.0, 0.4), ("C-", "", np.nan, -1.0, 0.6), ("treated", "x", 1.0, -0.9, 0.5)]
    rows += [("treated", "x", 10.0, 0.9, 0.5 * ratio), ("treated", "y", 1.0, 0.5, 0.5)]
    wells = pd.DataFrame(rows, columns=["role", "compound", "concentration_uM", "efficacy", "intensity_DNA"])
    wells = wells.assign(cell_type="cells", plate_id="P", well_id=[f"P_A{k:02d}" for k in range(5)])
    curves = pd.DataFrame({"method": "gandl", "cell_type": "cells", "compound": ["x", "y"], "hit": True})
    return {"wells": wells, "dose_response": curves}


def test_a_hit_with_fewer_cells_is_doubted():
    for ratio, doubted in ((0.5, True), (0.9, False)):
        tables = _tables(ratio)
        assert narrate.brightness(tables).to_dict() == pytest.approx({("cells", "x"): ratio, ("cells", "y"): 1.0})
        sites = tables["wells"].assign(well="A01", plate_id=["P", "P", "P", "Q", "Q"])
        said = narrate.what_to_distrust(tables, sites, False, {"gandl": {}})
        text = said.bundle["text/markdown"]
        assert ("Fewer cells?" in text) == doubted and ("its best dose x is" in text) == doubted
        assert "simulated" not in text and "Few controls" in text


def test_a_network_that_saw_simulated_cells_only_is_doubted():
    tables = _tables(1.0)
    sites = tables["wells"].assign(well="A01", plate_id=["P", "P", "P", "Q", "Q"])
    mine = {"gandl": {"checkpoint": "x", "trained_on_simulated": True}}
    assert "never seen a real cell" in narrate.what_to_distrust(tables, sites, False, mine).bundle["text/markdown"]
    assert "images are simulated" in narrate.what_to_distrust(tables, sites, True, mine).bundle["text/markdown"]


@pytest.mark.parametrize(
    ("z", "a", "low", "words"),
    [(0.6, 1.0, 3, "can be trusted"), (0.1, 0.95, 1, "single wells err"), (-3, 0.7, 0.1, "overlap widely"),
     (-9, 0.5, -0.2, "cannot be told apart")],
)  # fmt: skip
def test_controls_in_words(z, a, low, words):
    row = ("gandl", "cells", quality.ALL, 9, 9, 1.0, low, 4.0, z, a)
    table = pd.DataFrame([row], columns=quality.CONTROLS_HEADER)
    assert words in narrate.control_separation(table).bundle["text/plain"]
    assert "nothing can be measured" in narrate.control_separation(None).bundle["text/plain"]
    (shown,) = narrate.control_table(table).to_dict("records")
    assert shown["method"] == "GAN-DL" and shown["SSMD (95 %)"] == f"1.00 ({low:.2f} to 4.00)"
    assert not [title for title in shown if "_" in title] and narrate.control_table(None) is None


def test_edges_in_words():
    row = dict(zip(quality.EDGES_HEADER, ("P", "intensity_DNA", 9, 9, -1.5, 1e-6, 0.1, 0.1), strict=True))
    found, none = pd.DataFrame([row]), pd.DataFrame([row | {"p_value": 0.5}])
    assert "intensity of DNA on P (-1.5 SD)" in narrate.edge_effects(found).bundle["text/plain"]
    assert "No edge effect stands out among 1" in narrate.edge_effects(none).bundle["text/plain"]
    assert "Too few wells" in narrate.edge_effects(none.assign(p_value=np.nan)).bundle["text/plain"]


def test_a_well_map_says_what_it_shows():
    wells = pd.DataFrame({"plate_id": "P", "well": ["A01", "B03"], "role": ["C+", "treated"], "x": [1.0, 3.0]})
    figure = figures.well_map(wells, "P", "x", "brightness", (0, 4))
    assert figure.alt == "Map of plate P, brightness of 2 wells: 1 to 3, median 2."
    figure = figures.well_map(wells.assign(x=np.nan), "P", "x", "efficacy", (-1, 1))
    assert figure.alt == "Map of plate P, efficacy of 2 wells: not known."


def test_every_channel_has_a_light_of_its_own():
    """Also where some channels are known and others are not, and none of the lights is black."""
    for channels in (("DNA", "mito", "actin", "ER"), tuple("abcdefg")):
        lights = [figures.composite(one, channels)[0, 0] for one in np.eye(len(channels))[:, :, None, None]]
        assert len({tuple(light.round(3)) for light in lights}) == len(channels)
        assert min(light.max() for light in lights) > 0.3


def test_the_middle_of_an_image():
    image = np.arange(30).reshape(5, 6)
    np.testing.assert_array_equal(figures.centre(image, 2), [[8, 9], [14, 15]])
    assert figures.centre(image, 99) is not None and figures.centre(image, 99).shape == (5, 6)


# ---- what others make of it ----


def test_profiles_open_elsewhere_in_three_lines(done):
    """Straight from the .h5ad, with a table for R; chapter 09 goes by `gandl export` (test_export.py)."""
    anndata, copairs = pytest.importorskip("anndata"), pytest.importorskip("copairs.map")
    found = anndata.read_h5ad(done / "profiles.h5ad")
    wide = found.obs.join(found.to_df().add_prefix("feature_"))
    features = [c for c in wide if c.startswith("feature_")]
    import pycytominer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selected = pycytominer.feature_select(wide, features=features, operation="variance_threshold", na_cutoff=0.0)
        treated = wide[wide["role"] == "treated"].reset_index(drop=True)
        scored = copairs.average_precision(treated, treated[features].to_numpy(), ["compound"], [], [], ["compound"])
    assert len(selected) == len(wide) and scored["average_precision"].between(0, 1).all()
    wide.to_csv(done.parent / "wide.csv")
    assert len(pd.read_csv(done.parent / "wide.csv")) == len(wide)
