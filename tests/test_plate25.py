"""Profile plate25, rehearsed: the commands of config/plate25.yaml as they stand there, on simulated images.

A local server holds what the publisher's holds, in its own form: the zipped metadata.csv of several plates, the zipped
embeddings.csv, and every image of HRCE-1 plate 25 as a file. The wells are fewer than the real 1,340 and the images
smaller, all four sites of a well show the same, and the embeddings are noise but for one direction.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from built import ROOT, copy_of_project, snakemake
from gandl_book import chapters, narrate
from server import Server

from gandl_lib.cli import app
from gandl_lib.datasets import rxrx19a
from gandl_lib.fetch import screens as fetch
from gandl_lib.methods import METHODS
from gandl_lib.profiles import NORMALISATIONS
from gandl_lib.simulate import screens as simulated

CONFIG = ROOT / "config" / "plate25.yaml"
COMMANDS = [shlex.split(line) for line in re.findall(r"^#     (\S.*)$", CONFIG.read_text(), re.MULTILINE)]
"""What the profile tells its user to type, in order."""

ACTIVE, MOCK, UV = "Active SARS-CoV-2", "Mock", "UV Inactivated SARS-CoV-2"
DOSES = ("0.003", "0.01", "0.03", "0.1", "0.3", "1.0", "3.0", "10.0")
COMPOUNDS = {"Remdesivir (GS-5734)": 2, "GS-441524": 2, "Oseltamivir carboxylate": 1, "Aloxistatin": 1}
"""Wells of each dose."""
DIM = {"AA08": UV, "E08": MOCK}
"""Wells that are dim on the real plate, and what is in them."""


def metadata() -> pd.DataFrame:
    """Plate 25 in small, and a few rows of two other plates that nobody asks for; all text, as it is published."""
    places = [f"{row}{column:02d}" for row in ("B", "C", "D", "F", "G", "AB") for column in range(2, 48)]
    in_columns = [well for well in places if int(well[-2:]) in simulated.CONTROL_COLUMNS]
    elsewhere = [well for well in places if well not in in_columns]
    np.random.default_rng(0).shuffle(elsewhere)
    treated = [(ACTIVE, name, dose) for name, n in COMPOUNDS.items() for dose in DOSES for _ in range(n)]
    wells = {well: (condition, "", "") for well, condition in DIM.items()}
    wells |= zip(in_columns, [(MOCK, "", "")] * 19 + [(UV, "", "")] * 3 + [("", "", "")] * 2, strict=False)
    wells |= zip(elsewhere, [*treated, *[(ACTIVE, "", "")] * 24], strict=False)
    rows = []
    for cell_type, experiment, plate, some in (
        ("HRCE", "HRCE-1", 24, dict(list(wells.items())[:5])),
        ("HRCE", "HRCE-1", 25, wells),
        ("VERO", "VERO-1", 1, dict(list(wells.items())[:5])),
    ):
        for well, contents in some.items():
            for site in range(1, 5):
                well_id = f"{experiment}_{plate}_{well}"
                smiles = "C=O |c:6,t:3|" if contents[1] else ""
                identity = (f"{well_id}_{site}", well_id, cell_type, experiment, plate, well, site)
                rows.append((*map(str, identity), *contents, smiles))
    return pd.DataFrame(rows, columns=[*rxrx19a.COLUMNS, "SMILES"])


def zipped(name: str, table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"RxRx19a/{name}", table.to_csv(index=False))
    return buffer.getvalue()


def embeddings(table: pd.DataFrame, n: int = 16) -> pd.DataFrame:
    """A row a site in an order of its own, as published; the first feature knows who is infected."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((len(table), n))
    X[:, 0] += 4 * table["disease_condition"].eq(MOCK)
    return (
        pd.DataFrame(X, columns=[f"feature_{k}" for k in range(n)])
        .assign(site_id=table["site_id"])[["site_id", *(f"feature_{k}" for k in range(n))]]
        .sample(frac=1, random_state=0)
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    """The publisher's files by their names."""
    folder = tmp_path_factory.mktemp("drawn")
    table = metadata()
    table.to_csv(folder / "map.csv", index=False)
    screen = simulated.Screen(image_px=64, sites=1, experiments=(), strength=3.0)
    where = "experiment == 'HRCE-1' and plate == 25 and site == 1"
    drawn = simulated.simulate(folder / "out", screen, plate_map=folder / "map.csv", where=where, jobs=1)
    files: dict[str, bytes | Path] = {
        "RxRx19a-metadata.zip": zipped("metadata.csv", table),
        "RxRx19a-DL-embeddings.zip": zipped("embeddings.csv", embeddings(table)),
    }
    for path in sorted((drawn / "images").rglob("*.png")):
        name = path.relative_to(drawn).as_posix()
        files |= {name.replace("_s1_", f"_s{site}_"): path for site in range(1, 5)}
    return files


def addresses(server: Server, folder: Path) -> Path:
    """A table for `--urls`: the published addresses, at the local server."""
    urls = {
        key: f"{server.url}/images/{{file}}" if key == "image" else f"{server.url}/{url.rpartition('/')[2]}"
        for key, url in fetch.URLS["rxrx19a"].items()
    }
    path = folder / "urls.json"
    path.write_text(json.dumps({"rxrx19a": urls}))
    return path


def test_the_profile_asks_for_what_there_is() -> None:
    """Nothing of it is met for the first time on a GPU that somebody pays for."""
    made = yaml.safe_load(CONFIG.read_text())
    for name, settings in made["methods"].items():
        method = METHODS[settings.get("method", name)]
        assert settings.get("preset", "default") in method.presets, name
        assert method.trainable == ("images" in settings), name
    for method, setups in made["paradigms"]["setups"].items():
        assert {f"{made['paradigms']['size']}-{setup}" for setup in setups} <= set(METHODS[method].presets)
    assert set(made["paradigms"]["beside"]) <= set(made["methods"])
    assert set(made["normalisation"]) <= set(NORMALISATIONS)
    assert made["own"]["simulate"] in simulated.SCREENS


def test_the_dry_run_says_bytes_and_minutes_and_brings_no_image(tmp_path, served, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = COMMANDS[0][1:]
    assert asked[:2] == ["fetch", "rxrx19a"] and asked[-1] == "--dry-run"
    with Server(served) as server:
        app.cli(args=[*asked, "--urls", str(addresses(server, tmp_path))])
        assert not server.gets("images/")
    said = capsys.readouterr().out
    n = metadata().query("experiment == 'HRCE-1' and plate == '25'")
    assert f"{len(n):,} sites chosen, with {5 * len(n):,} images" in said
    assert re.search(r"about [\d.]+ MB, as 24 of them are .* minute.* at 100 Mbit/s", said)
    wells = rxrx19a.parse(tmp_path / "data" / "plate25" / "originals" / "metadata.csv")
    chosen = wells.query(yaml.safe_load(CONFIG.read_text())["screen"]["where"])
    assert len(chosen) == len(n) and set(chosen["plate_id"]) == {"HRCE-1_25"}
    assert set(chosen["role"]) == {"C+", "C-", "UV", "treated", "blank"}, "every arm of the screen"


SMALLER = {
    "preset: gpu128": "preset: tiny",
    "images: 400000": "images: 320",
    "size: paper": "size: tiny",
    "images: 200000": "images: 32",
    "own: { simulate: plate, images: 8000 }": "own: { simulate: tiny, images: 160 }",
}
"""The networks that a laptop trains in a minute, and not another word of the profile."""


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory, served: dict[str, bytes | Path]) -> Path:
    """A copy of the project in which the profile's commands were given, the fetch killed once."""
    above = tmp_path_factory.mktemp("plate25")
    folder = copy_of_project(above / "project")
    path = folder / "config" / "plate25.yaml"
    text = path.read_text()
    for as_it_is, smaller in SMALLER.items():
        assert as_it_is in text, f"the profile no longer says {as_it_is!r}; the rehearsal has to follow it"
        text = text.replace(as_it_is, smaller)
    path.write_text(text)
    asked_first, asked, workflow, embedded = COMMANDS[:4]
    with Server(served, pause_s=0.02) as server:
        urls = addresses(server, above)
        assert gandl(folder, *asked_first[1:], "--urls", urls).wait() == 0
        server.log.clear()
        killed = gandl(folder, *asked[1:], "--urls", urls)
        while len(server.gets("images/")) < 40:
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        data = folder / "data" / "plate25"
        assert not (data / "metadata.csv").exists(), "the workflow would begin with a part of the images"
        there = {path.relative_to(data).as_posix() for path in (data / "images").rglob("*.png")}
        server.log.clear()
        assert gandl(folder, *asked[1:], "--urls", urls).wait() == 0
        assert there and not there & set(server.gets("images/")), "what is whole is not fetched again"
        server.log.clear()
        assert gandl(folder, *embedded[1:], "--urls", urls).wait() == 0
        assert not server.gets("images/")
    assert workflow[0] == "snakemake" and workflow[-2:] == ["profile=plate25", "tables"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GANDL_DATA", raising=False)  # other real screens have rehearsals of their own
        made = snakemake(folder, "tables", profile="plate25", capture_output=True)
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]
    return folder


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, (folder, folder / "book", os.environ.get("PYTHONPATH", ""))))
    return os.environ | {"PYTHONPATH": path, "no_proxy": "127.0.0.1"}


def gandl(folder: Path, *arguments: object) -> subprocess.Popen:
    call = [sys.executable, "-c", "from gandl_lib.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(call, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL)


def chapter(folder: Path, name: str, *parameters: str) -> str:
    """What a chapter of the profile says and shows, as text."""
    out = folder / f"{name}.out.ipynb"
    call = [
        sys.executable,
        "-m",
        "papermill",
        f"notebooks/{name}.ipynb",
        str(out),
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    for parameter in ("profile plate25", *parameters):
        call += ["-p", *parameter.split()]
    run = subprocess.run(call, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    cells = [cell for cell in nbformat.read(out, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs if output.output_type in DISPLAYED]
    return "\n".join(output.data.get("text/plain", "") + output.data.get("text/html", "") for output in outputs)


DISPLAYED = ("display_data", "execute_result")


@pytest.mark.long
def test_one_site_of_the_plate_comes_whole(rehearsed: Path) -> None:
    wells, skipped = rxrx19a.wells(rehearsed / "data" / "plate25")
    asked = metadata().query("experiment == 'HRCE-1' and plate == '25' and site == '1'")
    assert skipped.empty and wells["site_id"].tolist() == asked["site_id"].tolist()
    assert {f"HRCE-1_25_{well}" for well in DIM} <= set(wells["well_id"])


@pytest.mark.long
def test_every_table_of_the_profile_is_made(rehearsed: Path) -> None:
    results = rehearsed / "results" / "plate25"
    methods = set(yaml.safe_load(CONFIG.read_text())["methods"])
    for name in ("separability", "axes", "efficacy", "dose_response", "replicates", "probe_size", "paradigms"):
        table = pd.read_csv(results / f"{name}.csv")
        assert len(table), name
        assert name == "paradigms" or methods <= set(table["method"]), name
    scores = pd.read_csv(results / "separability.csv")
    assert set(scores["split"]) == {"well"} and set(scores["task"]) == {"C+ vs C-", "C+ vs C-, HRCE"}
    assert set(pd.read_csv(results / "axes.csv")["task"]) == {"E2"}


@pytest.mark.long
def test_the_chapters_say_what_one_plate_cannot(rehearsed: Path) -> None:
    separated = chapter(rehearsed, "04_separability")
    for said in (
        "too few plates to hold any out",
        "no plate could be held out",
        "no controls of both HRCE and VERO",
        "no well here has two sites",
        "No C2 axis",
    ):
        assert said in separated, said
    dosed = chapter(rehearsed, "05_dose_response")
    assert "Remdesivir (GS-5734), 10 µM" in dosed and "well AA08, inactivated virus" in dosed
    assert "published baseline" not in dosed


@pytest.mark.long
def test_the_published_baseline_stands_beside(rehearsed: Path) -> None:
    profiles, papermill = COMMANDS[4:]
    assert gandl(rehearsed, *profiles[1:]).wait() == 0
    assert papermill[-5:] == ["profile", "plate25", "-p", "published", "baseline.h5ad"]
    separated = chapter(rehearsed, "04_separability", "published baseline.h5ad")
    end = separated.index("in square brackets what the paper has")
    table = separated[max(0, end - 4000) : end]
    assert all(row in table for row in ("GAN-DL", "cell count", "published baseline", "majority rate"))
    dosed = chapter(rehearsed, "05_dose_response", "published baseline.h5ad")
    head = next(line for line in dosed.splitlines() if "plate 25" in line and "others" in line)
    assert all(column in head for column in ("GAN-DL", "published baseline"))


# ---- what others measured there ----


def test_their_numbers_stand_beside_ours_on_their_scale() -> None:
    """Efficacy +1 (uninfected) is their 0, -1 (infected) their 1; means are over the wells that they speak of."""
    theirs = chapters.paper("plate25")
    remdesivir = theirs.query("measure == 'on_score' and role == 'treated'")
    assert remdesivir["concentration_uM"].tolist() == [float(dose) for dose in DOSES]
    assert set(theirs["compound"].dropna()) < set(COMPOUNDS) and set(theirs["well"].dropna()) == set(DIM)
    wells = plate_25().assign(method="gandl")
    wells["efficacy"] = wells["role"].map({"C+": 1.0, "C-": -1.0, "UV": 0.5}).fillna(0.0)
    top = wells["compound"].eq("Remdesivir (GS-5734)") & wells["concentration_uM"].eq(10)
    wells.loc[top, "efficacy"] = [1.0, 0.5]
    wells.loc[wells["compound"].eq("Oseltamivir carboxylate"), "efficacy"] = np.linspace(-1, 0, 8)
    X = np.zeros((len(wells), 3))  # one that differs, one of chance, and one without any spread
    X[:, 0] = 3.0 * wells["role"].eq("C+") + np.where(np.arange(len(wells)) % 3, 1.0, -1.0)
    X[:, 1] = np.arange(len(wells)) % 2
    profiles = AnnData(X.astype(np.float32), obs=wells.set_index(wells.index.astype(str)))
    profiles.uns["provenance"] = json.dumps({"method": "gandl", "simulated": False})
    table = narrate.plate25(theirs, wells, [profiles]).set_index("plate 25")
    ours, others = table["GAN-DL"], table["others"]
    assert others["Remdesivir (GS-5734), 0.1 µM"] == "0.357" and others["well E08, uninfected"] == "dim"
    assert ours["Remdesivir (GS-5734), 10 µM"] == "0.12" and ours["Remdesivir (GS-5734), 1 µM"] == "0.50"
    assert ours["Oseltamivir carboxylate, lowest to highest dose mean"] == "0.50 to 1.00"
    assert ours["inactivated virus"] == "0.25" and ours["well E08, uninfected"] == "0.00"

    def d(k: int) -> float:
        a, b = X[wells["role"] == "C+", k], X[wells["role"] == "C-", k]
        return abs(a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)

    found = float(ours["median |Cohen's d| of uninfected against infected wells"])
    assert found == pytest.approx(np.median([d(0), d(1)]), abs=0.006)
    assert pd.isna(ours["median |Cohen's d| of uninfected against infected cells"])


def test_their_numbers_stand_beside_nothing_else() -> None:
    theirs, wells = chapters.paper("plate25"), plate_25().assign(method="gandl", efficacy=np.nan)
    simulation = AnnData(np.zeros((len(wells), 2), np.float32), obs=wells.set_index(wells.index.astype(str)))
    simulation.uns["provenance"] = json.dumps({"method": "gandl", "simulated": True})
    assert narrate.plate25(theirs, wells, [simulation]) is None, "a simulated screen under that name"
    assert narrate.plate25(theirs, wells.assign(plate_id="HRCE-1_24"), []) is None
    blind = narrate.plate25(theirs, wells, [])
    assert set(blind["GAN-DL"].dropna()) == {"–"}, "without an axis there is no number"


def plate_25() -> pd.DataFrame:
    """The wells table of `metadata()`, a site a well of plate 25."""
    with tempfile.TemporaryDirectory() as folder:
        metadata().to_csv(Path(folder, "metadata.csv"), index=False)
        wells = rxrx19a.parse(Path(folder, "metadata.csv"))
    return wells.query("plate_id == 'HRCE-1_25' and site == 1").reset_index(drop=True)
