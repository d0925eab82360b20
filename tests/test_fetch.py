"""Fetching from a server that misbehaves ends in the same folder as from one that does not, or says what is missing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import stat
import subprocess
import sys
import time
import zipfile
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import FAULTS, Server

from gandl_lib.datasets import rxrx1, rxrx19a
from gandl_lib.fetch import archives as _archives
from gandl_lib.fetch import screens as fetch
from gandl_lib.fetch import transfer as _download
from gandl_lib.fetch.screens import FetchError, Patience
from gandl_lib.fetch.transfer import Client
from gandl_lib.paths import is_unsafe

NOISE = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))  # 8 kB that does not compress


class Waits(list):
    """Waits for nothing, and remembers for how long."""

    def patience(self, **changes: float) -> Patience:
        return Patience(**{"retries": 3, "timeout_s": 5.0, "sleep": self.append} | changes)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture(autouse=True)
def _nothing_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy for the local server; chunks smaller than the simulated files, so that parts of them arrive."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_download, "CHUNK", 256)


def tree(root: Path) -> dict[str, bytes]:
    """All files of a folder, without the server's port in the record."""
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    record = json.loads(files["fetch.json"])
    for entry in record["originals"].values():
        del entry["url"]
    return files | {"fetch.json": json.dumps(record).encode()}


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


@pytest.fixture
def rxrx19a_files(make_screen) -> dict[str, bytes]:
    """What a server of RxRx19a holds, simulated: the zipped table, and every image as a file."""
    root = make_screen(plates=1, wells=4, sites=1)
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in (root / "images").rglob("*.png")}
    embeddings = b"site_id,feature_0\nVERO-1_1_A02_1,0.5\n"
    return files | {
        "RxRx19a-metadata.zip": pack({"RxRx19a/metadata.csv": (root / "metadata.csv").read_bytes()}),
        "RxRx19a-DL-embeddings.zip": pack({"RxRx19a/embeddings.csv": embeddings}),
    }


def rxrx1_screen() -> tuple[bytes, dict[str, bytes]]:
    """A simulated RxRx1: metadata.csv, and the members of the archive with their content."""
    lines, images = [",".join(rxrx1.COLUMNS)], {}
    for plate in (1, 2):
        for well, sirna in (("B02", "EMPTY"), ("B03", "s21")):
            kind = "negative_control" if sirna == "EMPTY" else "treatment"
            lines.append(
                f"RPE-01_{plate}_{well}_1,RPE-01_{plate}_{well},RPE,train,RPE-01,{plate},{well},1,{kind},{sirna},7"
            )
            for w in range(1, 7):
                name = f"rxrx1/images/RPE-01/Plate{plate}/{well}_s1_w{w}.png"
                images[name] = name.encode() * 3 + NOISE[: 300 + 10 * w]
    return "\n".join(lines).encode(), images


def rxrx1_server(images: dict[str, bytes] | bytes, metadata: bytes | None = None, **options) -> Server:
    archive = images if isinstance(images, bytes) else pack(images)
    files = {
        "rxrx1-metadata.zip": pack({"rxrx1/metadata.csv": metadata or rxrx1_screen()[0]}),
        "rxrx1-images.zip": archive,
    }
    return Server(files, **options)


def urls(server: Server) -> dict[str, dict[str, str]]:
    """Our table of addresses, at the local server."""

    def local(url: str) -> str:
        return f"{server.url}/images/{{file}}" if url.endswith("{file}") else f"{server.url}/{url.rpartition('/')[2]}"

    return {dataset: {key: local(url) for key, url in row.items()} for dataset, row in fetch.URLS.items()}


def get(server: Server, out: Path, waits: Waits, dataset: str = "rxrx19a", **options) -> fetch.Report:
    options = {"urls": urls(server), "patience": waits.patience(), "workers": 3} | options
    return fetch.fetch(dataset, out, **options)


# ---- what comes out ----


def test_single_files_lie_where_the_loader_reads_them(tmp_path, rxrx19a_files, waits):
    where = "treatment in ['Remdesivir (GS-5734)', 'GS-441524'] or disease_condition == 'Mock'"
    with Server(rxrx19a_files) as server:
        report = get(server, tmp_path / "out", waits, where=where, embeddings=True)
        assert all(r.agent.startswith("gandl/") for r in server.log)
    wells, skipped = rxrx19a.wells(tmp_path / "out")
    assert wells["role"].tolist() == ["C+", "treated"] and skipped.empty
    images = {n: c for n, c in tree(tmp_path / "out").items() if n.startswith("images/")}
    assert images == {
        n: c for n, c in rxrx19a_files.items() if n.startswith(("images/VERO-1/Plate1/A02", "images/VERO-1/Plate1/A05"))
    }
    assert (report.sites, report.images, report.fetched, report.present, report.failed) == (2, 10, 10, 0, {})
    assert report.bytes_fetched == sum(map(len, images.values()))
    assert pd.read_csv(tmp_path / "out/embeddings.csv").columns.tolist() == ["site_id", "feature_0"]
    record = json.loads((tmp_path / "out/fetch.json").read_text())
    for name in ("RxRx19a-metadata.zip", "RxRx19a-DL-embeddings.zip"):
        assert (tmp_path / "out/originals" / name).read_bytes() == rxrx19a_files[name]
        assert record["originals"][name]["sha256"] == hashlib.sha256(rxrx19a_files[name]).hexdigest()
    assert len(rxrx19a.parse(tmp_path / "out/originals/metadata.csv")) == 4
    assert not waits


def test_without_a_query_the_published_table_is_kept_byte_for_byte(tmp_path, rxrx19a_files, waits):
    with Server(rxrx19a_files) as server:
        report = get(server, tmp_path / "out", waits, images=False)
        assert not server.gets("images/") and report.images == 0
    published = zipfile.ZipFile(io.BytesIO(rxrx19a_files["RxRx19a-metadata.zip"])).read("RxRx19a/metadata.csv")
    assert (tmp_path / "out/metadata.csv").read_bytes() == published


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_out_of_an_archive_by_ranges(tmp_path, waits, method):
    _, images = rxrx1_screen()
    noise = random.Random(0).randbytes  # does not compress
    ballast = {f"rxrx1/images/U2OS-01/Plate{i}/B02_s1_w1.png": noise(2**18) for i in range(8)}  # 2 MB that nobody wants
    archive = pack(ballast | images, method)
    with rxrx1_server(archive) as server:
        planned = get(server, tmp_path / "plan", waits, "rxrx1", where="plate == 2", dry_run=True)
        assert not (tmp_path / "plan/images").exists() and not (tmp_path / "plan/metadata.csv").exists()
        before = server.sent("images")
        report = get(server, tmp_path / "out", waits, "rxrx1", where="plate == 2")
        sent = server.sent("images") - before
        assert all(r.range for r in server.log if "images" in r.path)
    wanted = {n.removeprefix("rxrx1/"): c for n, c in images.items() if "Plate2" in n and "_w5" not in n}
    got = {n: c for n, c in tree(tmp_path / "out").items() if n.startswith("images/")}
    assert got == wanted and report.fetched == 10 and not report.failed
    assert sent == 1 + _archives._TAIL_BYTES + report.bytes_expected < len(archive) / 10
    assert planned.bytes_expected == report.bytes_expected and planned.fetched == 0
    assert rxrx1.parse(tmp_path / "out/metadata.csv")["sirna_id"].tolist() == ["7", "7"]


def test_bbbc021_comes_from_the_archives_of_the_plates_chosen(tmp_path, waits):
    stains, rows, archives = ("DAPI", "Tubulin", "Actin"), [], {}
    for plate in ("Week1_22123", "Week4_27481"):
        members = {f"{plate}/G10_s1_w{w}{plate}.tif": NOISE[w:2000] for w in (1, 2, 4)}
        archives[f"BBBC021_v1_images_{plate}.zip"] = pack(members)
        names = dict(zip(stains, members, strict=True))
        row = {f"Image_FileName_{s}": Path(n).name for s, n in names.items()}
        rows.append(
            row
            | {f"Image_PathName_{s}": f"{plate.split('_')[0]}/{plate}" for s in stains}
            | {"Image_Metadata_Concentration": "0.3"}
        )
    table = pd.DataFrame(rows).to_csv(index=False).encode()
    files = archives | {
        "BBBC021_v1_image.csv": table,
        "BBBC021_v1_moa.csv": b"compound\n",
        "BBBC021_v1_compound.csv": b"smiles\n",
    }
    with Server(files) as server:
        where = "Image_Metadata_Concentration < 1 and Image_PathName_DAPI.str.startswith('Week4')"
        report = get(server, tmp_path / "out", waits, "bbbc021", where=where)
        assert not server.gets("Week1") and report.fetched == 3
    out = tree(tmp_path / "out")
    assert out["images/Week4/Week4_27481/G10_s1_w2Week4_27481.tif"] == NOISE[2:2000]
    assert out["originals/BBBC021_v1_image.csv"] == table and out["BBBC021_v1_moa.csv"] == b"compound\n"
    assert pd.read_csv(tmp_path / "out/BBBC021_v1_image.csv")["Image_PathName_Actin"].tolist() == ["Week4/Week4_27481"]


def test_real_bbbc021_metadata_name_their_plates(tmp_path, gandl_data, waits):
    plates, sites = 2, 4
    text = "\n".join(
        [",".join(f"Image_{k}Name_{s}" for s in ("DAPI", "Tubulin", "Actin") for k in ("File", "Path"))]
        + [",".join(f"{s}{i}.tif,Week{i % 2}/Week{i % 2}_1" for s in "abc") for i in range(4)]
    ).encode()
    if gandl_data is not None:
        text = pd.read_csv(gandl_data / "bbbc021/BBBC021_v1_image.csv.gz", dtype=str).to_csv(index=False).encode()
        plates, sites = 55, 13200
    (tmp_path / "image.csv").write_bytes(text)
    rows, jobs = fetch._choose("bbbc021", tmp_path / "image.csv", None, fetch.URLS["bbbc021"])
    assert len(rows) == sites and len(jobs) == len({j.path for j in jobs}) == 3 * sites
    assert len({j.url for j in jobs}) == plates and not any(is_unsafe(j.path) for j in jobs)
    folders = {(j.path.rsplit("/", 2)[1], j.url.rpartition("_images_")[2]) for j in jobs}
    assert all(f"{plate}.zip" == archive for plate, archive in folders)


def test_the_estimate_of_single_files(tmp_path, rxrx19a_files, waits, capsys):
    with Server(rxrx19a_files) as server:
        report = get(server, tmp_path / "out", waits, dry_run=True)
        images = [len(c) for n, c in rxrx19a_files.items() if n.startswith("images/")]
        assert report.bytes_expected == pytest.approx(sum(images))  # 20 files: all are asked
        assert not server.gets("images/") and len(server.log) == 1 + len(images)
    assert "20 images (about 11.1 kB, as 20 of them" in capsys.readouterr().out
    assert sorted(tree(tmp_path / "out")) == ["fetch.json", "originals/RxRx19a-metadata.zip", "originals/metadata.csv"]


def test_the_estimate_of_time():
    """60 s a minute, 8 bits a byte: 750 MB take a minute at 100 Mbit/s; what is waited for is added."""
    assert fetch._duration(749e6) == "less than a minute at 100 Mbit/s"
    assert fetch._duration(750e6) == "about 1 minute at 100 Mbit/s"
    assert fetch._duration(7.5e9, waited_s=90 * 60) == "about 100 minutes at 100 Mbit/s"


def test_the_estimate_of_single_files_counts_the_waits(tmp_path, rxrx19a_files, waits, capsys, monkeypatch):
    """Small files on a slow server: each takes an answer, and 20 answers of half a minute take ten minutes."""
    clock = iter([0.0, 600.0])
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=clock.__next__))
    with Server(rxrx19a_files) as server:
        get(server, tmp_path / "out", waits, dry_run=True)
    assert "about 10 minutes at 100 Mbit/s" in capsys.readouterr().out


def test_what_is_there_is_not_asked_for_again(tmp_path, rxrx19a_files, waits):
    with Server(rxrx19a_files) as server:
        get(server, tmp_path / "out", waits, where="role == 'C+'")
        before = tree(tmp_path / "out")
        server.log.clear()
        again = get(server, tmp_path / "out", waits, where="role == 'C+'")
        assert not server.log and (again.present, again.fetched) == (5, 0)
        assert tree(tmp_path / "out") == before
        get(server, tmp_path / "out", waits, where="role in ['C+', 'C-']")
        assert len(server.gets()) == 5
    with rxrx1_server(rxrx1_screen()[1]) as server:
        get(server, tmp_path / "one", waits, "rxrx1")
        server.log.clear()
        get(server, tmp_path / "one", waits, "rxrx1")
        assert not server.log


# ---- servers that misbehave ----


@settings(max_examples=40)
@given(
    faults=st.lists(st.sampled_from(FAULTS), max_size=5),
    size=st.sampled_from([1, 255, 256, 257, 700, 5000]),
    span=st.booleans(),
    etags=st.booleans(),
    dates=st.booleans(),
)
def test_any_faults_within_the_patience_change_nothing(tmp_path_factory, faults, size, span, etags, dates):
    """Whatever goes wrong, in whatever order: in the end the file is right, and nothing lies beside it."""
    folder = tmp_path_factory.mktemp("faults")
    content, path = NOISE[:size], folder / "file"

    def check(file: Path) -> None:
        if file.read_bytes() != content:
            raise _download.Again("damaged")

    with Server({"file": NOISE if span else content}, {"file": list(faults)}, etags=etags, dates=dates) as server:
        with Client(Waits().patience(retries=5)) as client:
            options = {"finds_end": True}
            if span:
                server.faults["file"].insert(0, None)
                options = {"span": (0, size), "validator": client.parts(f"{server.url}/file")[1]}
            client.download(f"{server.url}/file", path, check=check, **options)
        assert len(server.log) <= len(faults) + 2
    assert path.read_bytes() == content
    assert [p.name for p in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("dataset", ["rxrx19a", "rxrx1"])
def test_a_screen_comes_whole_through_all_faults(tmp_path, rxrx19a_files, waits, dataset):
    files = rxrx19a_files if dataset == "rxrx19a" else rxrx1_server(rxrx1_screen()[1]).files
    with Server(files) as server:
        get(server, tmp_path / "calm", waits, dataset)
    assert not waits
    singles = [n for n in files if not n.startswith("rxrx1-images")]
    faults = {n: [FAULTS[(i + k) % len(FAULTS)] for k in range(3)] for i, n in enumerate(singles)}
    faults["rxrx1-images.zip"] = (
        [None, *(f for f in FAULTS if f != "corrupt")][:5] + [None] * 3 + ["corrupt", "truncate", "drop"]
    )
    with Server(files, faults, retry_after="7") as server:
        report = get(server, tmp_path / "rough", waits, dataset, patience=waits.patience(retries=5))
    assert waits and not report.failed
    assert tree(tmp_path / "rough") == tree(tmp_path / "calm")


def test_a_dropped_file_goes_on_where_it_stopped(tmp_path, waits):
    with Server({"file": NOISE}, {"file": ["drop"] * 3}) as server, Client(waits.patience()) as client:
        client.download(f"{server.url}/file", tmp_path / "file")
        starts = [int((r.range or "bytes=0").removeprefix("bytes=").rstrip("-")) for r in server.log]
        assert starts == [0, 4096, 6144, 7168] and server.sent() == len(NOISE)
    assert (tmp_path / "file").read_bytes() == NOISE


def test_a_part_is_not_continued_with_another_version(tmp_path, waits):
    old, new = NOISE, NOISE[::-1]
    for options in ({}, {"etags": False, "dates": True}, {"etags": False}):
        path = tmp_path / f"file{len(options)}"
        with (
            Server({"file": old}, {"file": ["drop"]}, changes={"file": (1, new)}, **options) as server,
            Client(waits.patience()) as client,
        ):
            client.download(f"{server.url}/file", path)
            assert path.read_bytes() == new and len(server.log) == 2


@pytest.mark.parametrize("asked", [1, 2, 3, 5])
def test_an_archive_that_changes_midway_is_read_anew(tmp_path, waits, asked):
    """At its first byte, its directory, or its members: all images are those of the new version."""
    _, images = rxrx1_screen()
    new = pack({"rxrx1/README": NOISE} | {n: c[::-1] for n, c in images.items()})
    with rxrx1_server(images, changes={"rxrx1-images.zip": (asked, new)}) as server:
        report = get(server, tmp_path / "out", waits, "rxrx1", where="plate == 1", workers=1)
    assert not report.failed
    out = {n: c for n, c in tree(tmp_path / "out").items() if n.startswith("images/")}
    changed = {n.removeprefix("rxrx1/"): c[::-1] for n, c in images.items() if "Plate1" in n and "_w5" not in n}
    before = {n.removeprefix("rxrx1/"): c for n, c in images.items()}
    kept = max(0, asked - 2)  # members that were whole before
    assert sum(out[n] == changed[n] for n in out) == len(out) - kept and len(out) == 10
    assert sum(out[n] == before[n] for n in out) == kept


@pytest.mark.parametrize("code", ["429", "503"])
def test_retry_after_is_obeyed(tmp_path, waits, code):
    with Client(waits.patience()) as client:
        for hint, least, most in (("17", 17, 19), (formatdate(time.time() + 40, usegmt=True), 37, 41)):
            with Server({"file": NOISE}, {"file": [code]}, retry_after=hint) as server:
                client.download(f"{server.url}/file", tmp_path / "file")
            assert least <= waits.pop() <= most and not waits
        with Server({"file": NOISE}, {"file": [code]}, retry_after="9999") as server:
            with pytest.raises(FetchError, match=rf"answers {code}.*come back in 9,999 s"):
                client.download(f"{server.url}/file", tmp_path / "file")
            assert len(server.log) == 1 and not waits


def test_waits_double_with_jitter_and_end(tmp_path, waits):
    with Server({"file": NOISE}, always={"*": "503"}) as server, Client(waits.patience(retries=9)) as client:
        with pytest.raises(FetchError, match="503 Service Unavailable; given up after 10 tries"):
            client.download(f"{server.url}/file", tmp_path / "file")
        assert len(server.log) == 10
    assert all(0.5 <= w / min(2**k, 120) <= 1 for k, w in enumerate(waits)) and len(waits) == 9


def test_a_server_that_is_silent_or_gone(tmp_path, waits):
    with Server({"file": NOISE}, pause_s=0.3) as server, Client(waits.patience(retries=1, timeout_s=0.1)) as client:
        with pytest.raises(FetchError, match="connection failed .*timed out.*given up after 2 tries"):
            client.download(f"{server.url}/file", tmp_path / "file")
        url = server.url
    with Client(waits.patience()) as client, pytest.raises(FetchError, match="refused.*given up after 4 tries"):
        client.download(f"{url}/file", tmp_path / "file")


def test_redirects_are_followed_but_not_for_ever(tmp_path, waits):
    with (
        Server({"file": NOISE}, redirects={"old": "/file", "loop": "/loop"}) as server,
        Client(waits.patience()) as client,
    ):
        client.download(f"{server.url}/old", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == NOISE
        with pytest.raises(FetchError, match="redirects"):
            client.download(f"{server.url}/loop", tmp_path / "loop")
        assert len(server.gets("loop")) == 1 and server.gets("loop")["loop"] <= 6


def test_files_without_a_length(tmp_path, waits):
    """The end is asked for; where it is not told, a file that cannot prove itself whole is not believed."""
    with Server({"file": NOISE}, {"file": ["no length"]}) as server, Client(waits.patience()) as client:
        client.download(f"{server.url}/file", tmp_path / "file")
        assert [r.range for r in server.log] == [None, "bytes=8192-"]
    for always in ("no length, drop",):
        with Server({"file": NOISE}, always={"*": always}) as server, Client(waits.patience()) as client:
            with pytest.raises(FetchError, match="does not say how long the file is"):
                client.download(f"{server.url}/file", tmp_path / "half")
    with Server({"file": NOISE}, {"file": ["no length"] * 8}) as server, Client(waits.patience()) as client:
        with pytest.raises(FetchError, match="more than 5,000 bytes"):
            client.download(f"{server.url}/file", tmp_path / "big", limit=5000)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_had_is_named_and_the_rest_kept(tmp_path, rxrx19a_files, waits, capsys):
    gone, ill, bad = (f"images/VERO-1/Plate1/A02_s1_w{w}.png" for w in (1, 2, 3))
    files = {n: c for n, c in rxrx19a_files.items() if n != gone}
    with Server(files, always={ill: "503", bad: "corrupt"}) as server:
        report = get(server, tmp_path / "out", waits)
        asked = server.gets("images/")
        assert asked.pop(gone) == 1 and asked.pop(ill) == asked.pop(bad) == 4 and set(asked.values()) == {1}
    assert list(report.failed) == [gone, ill, bad] and report.fetched == 17
    for name, reason in ((gone, "404 Not Found"), (ill, "503"), (bad, "no undamaged PNG")):
        assert reason in report.failed[name] and name in str(report) and name in capsys.readouterr().out + str(report)
    assert json.loads((tmp_path / "out/fetch.json").read_text())["failed"] == report.failed
    wells, skipped = rxrx19a.wells(tmp_path / "out")
    assert len(wells) == 3 and skipped["site_id"].tolist() == ["VERO-1_1_A02_1"]
    with Server(rxrx19a_files) as server:
        assert not get(server, tmp_path / "out", waits).failed
        assert sorted(server.gets()) == [gone, ill, bad]
        calm = get(server, tmp_path / "calm", waits)
    assert calm.fetched == 20 and tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_no_more_than_the_workers_ask_at_a_time(tmp_path, rxrx19a_files, waits):
    with Server(rxrx19a_files, pause_s=0.01) as server:
        get(server, tmp_path / "out", waits, workers=3)
    assert server.most_busy == 3


def test_many_failures_in_a_row_end_the_run(tmp_path, rxrx19a_files, waits, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_FAILURES_IN_A_ROW", 4)
    files = {n: c for n, c in rxrx19a_files.items() if not n.startswith("images/")}
    with Server(files) as server:
        report = get(server, tmp_path / "out", waits, workers=1)
        assert len(server.gets("images/")) == 4
    assert len(report.failed) == 20 and sum("not tried" in reason for reason in report.failed.values()) == 16


def test_an_archive_without_ranges_is_never_downloaded(tmp_path, waits):
    with rxrx1_server(rxrx1_screen()[1], always={"rxrx1-images.zip": "whole"}) as server:
        report = get(server, tmp_path / "out", waits, "rxrx1")
        assert len(server.gets("images")) == 1 and server.gets("images")["rxrx1-images.zip"] == 4
    assert len(report.failed) == 20 and all("--urls" in reason for reason in report.failed.values())


def test_missing_metadata_is_an_error(tmp_path, waits):
    with Server({}) as server, pytest.raises(FetchError, match="RxRx19a-metadata.zip: the server answers 404"):
        get(server, tmp_path / "out", waits)
    with Server({"RxRx19a-metadata.zip": b"<html>"}) as server, pytest.raises(FetchError, match="no zip archive"):
        get(server, tmp_path / "out", waits)


# ---- kill and resume ----


class Killed(BaseException):
    pass


@pytest.mark.parametrize("dataset", ["rxrx19a", "rxrx1"])
def test_a_run_that_is_cut_off_anywhere_goes_on(tmp_path, rxrx19a_files, waits, monkeypatch, dataset):
    """Cut off before each file gets its name in turn. No name is ever on a part, and nothing whole is fetched twice."""
    files = rxrx19a_files if dataset == "rxrx19a" else rxrx1_server(rxrx1_screen()[1]).files
    with Server(files) as server:
        get(server, tmp_path / "calm", waits, dataset, where="plate == 1")
    calm, replace, out = tree(tmp_path / "calm"), os.replace, tmp_path / "cut"
    left = [0]

    def cut(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    seen: dict[str, int] = {}
    with Server(files) as server:
        for step in range(9):
            left[0] = 5 + 3 * step
            try:
                get(server, out, waits, dataset, where="plate == 1", workers=2)
                break
            except Killed:
                whole = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
                whole = {n: c for n, c in whole.items() if not n.endswith((".partial", "fetch.json"))}
                assert all(calm[n] == c for n, c in whole.items())
                for name in set(whole) - set(seen):
                    seen[name] = sum(server.gets(name).values())
        asked = server.gets()
    assert step >= 2 and tree(out) == calm
    assert all(asked[name] == n for name, n in seen.items() if name in asked)


def test_a_part_from_an_earlier_run_is_used_if_it_is_of_the_same_version(tmp_path, waits):
    for options, sent in (({}, len(NOISE)), ({"etags": False}, len(NOISE) + 4096)):
        path = tmp_path / f"file{sent}"
        with Server({"file": NOISE}, {"file": ["drop"]}, **options) as server:
            with (
                Client(waits.patience(retries=0)) as client,
                pytest.raises(FetchError, match="4096 bytes read, 4096 more"),
            ):
                client.download(f"{server.url}/file", path)
            assert not path.exists() and path.with_name(path.name + ".partial").stat().st_size == 4096
            with Client(waits.patience(retries=0)) as client:
                client.download(f"{server.url}/file", path)
            assert server.sent() == sent and path.read_bytes() == NOISE


KILLS = """
import json, os, pathlib, signal, sys, time
from gandl_lib.datasets import rxrx19a
from gandl_lib.fetch.screens import fetch

out, calm, urls = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
rxrx19a.parse(calm / "metadata.csv")  # what takes long the first time is done before the forks
for files in map(int, sys.argv[4:]):
    if not (pid := os.fork()):
        fetch("rxrx19a", out, urls=urls, workers=2)
        os._exit(0)
    deadline = time.monotonic() + 30
    while len(list(out.rglob("*.png"))) < files and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    whole = [p for p in out.rglob("*") if p.is_file() and p.suffix != ".partial" and p.name != "fetch.json"]
    assert all(p.read_bytes() == (calm / p.relative_to(out)).read_bytes() for p in whole)
    print(sum(p.suffix == ".png" for p in whole), (out / "metadata.csv").exists())
"""


def test_sigkill_while_fetching(tmp_path, rxrx19a_files, waits):
    out, calm = tmp_path / "out", tmp_path / "calm"
    with Server(rxrx19a_files) as server:
        get(server, calm, waits)
        server.pause_s = 0.02
        addresses = json.dumps({"rxrx19a": urls(server)["rxrx19a"]})
        command = [sys.executable, "-c", KILLS, out, calm, addresses, *map(str, (0, 1, 7, 13))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        counts = [int(line.split()[0]) for line in said if line.endswith(" False")]
        assert len(counts) == 4 and counts == sorted(counts) and 13 <= counts[-1] < 20
        server.pause_s = 0
        server.log.clear()
        report = get(server, out, waits)
        assert report.present == counts[-1] and sum(server.gets().values()) == report.fetched
    assert tree(out) == tree(calm)


def test_a_full_disk_is_one_clear_error_and_keeps_what_is_whole(tmp_path, rxrx19a_files, waits, monkeypatch):
    replace, left = os.replace, [8]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(source))
        replace(source, target)

    with Server(rxrx19a_files) as server:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(
            OSError, match=r"cannot write .*\.partial: No space left on device.*run the same command again"
        ):
            get(server, tmp_path / "out", waits)
        monkeypatch.setattr(os, "replace", replace)
        report = get(server, tmp_path / "out", waits)
        assert report.present > 0 and not report.failed
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write .*file/out"):
        get(server, tmp_path / "file/out", waits)
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage)
    with Server(rxrx19a_files) as server, pytest.raises(ValueError, match=r"need.*1.0 kB are free"):
        get(server, tmp_path / "small", waits)


# ---- what must not be believed ----


def hostile() -> tuple[bytes, dict[str, tuple[str, str]]]:
    """An archive of RxRx1 of which most members are hostile; of each of those its kind and what is to be said of it."""
    _, images = rxrx1_screen()
    names = [n for n in images if "_w5" not in n]
    told, buffer = {}, io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in zip(names, HOSTILE, strict=False):
            info, content = zipfile.ZipInfo(name), images.pop(name)
            info.compress_type = {"lzma": zipfile.ZIP_LZMA}.get(kind, zipfile.ZIP_DEFLATED)
            if kind in ("../../", "/", "C:\\", "a/../../", "./"):
                info.filename = kind + name.removeprefix("rxrx1/")
            elif kind in ("link", "fifo"):
                info.external_attr = {"link": stat.S_IFLNK | 0o777, "fifo": stat.S_IFIFO | 0o666}[kind] << 16
            elif kind == "big":
                content = bytes(70_000)
            elif kind == "missing":
                info.filename = "other.png"
            elif kind == "twice":
                archive.writestr("copy/" + name, content)
            archive.writestr(info, content, info.compress_type)
            if kind == "encrypted":  # what the directory, written at the end, says is what counts
                info.flag_bits |= 1
            elif kind in ("bomb", "short"):
                info.file_size += {"bomb": -1, "short": 1}[kind]
            elif kind == "lie":
                info.file_size, info.compress_size = 60_000, 50
            elif kind == "overlap":
                info.header_offset -= 100  # so the member before loses its end
            told["images/" + name.removeprefix("rxrx1/images/")] = (kind, HOSTILE[kind])
        for name, content in images.items():
            archive.writestr(name, content)
    return buffer.getvalue(), told


HOSTILE = {
    "../../": "is no plain relative path",
    "/": "is no plain relative path",
    "C:\\": "is no plain relative path",
    "a/../../": "is no plain relative path",
    "./": "is no plain relative path",
    "link": "is a link or a device",
    "fifo": "is a link or a device",
    "lzma": "is packed by method 14",
    "encrypted": "is encrypted",
    "big": "is 70,000 bytes .* over the limit of 65,536",
    "lie": "is said to hold 60,000 bytes in 50, which cannot be",
    "bomb": "unpacks to more than the .* bytes that the archive's directory says",
    "short": "has not the length and CRC-32",
    "twice": "holds 2 files of this name",
    "missing": "holds 0 files of this name",
    "loses its end": "overlaps with another",
    "overlap": "no member of a zip archive",
}


def test_hostile_members_are_refused_by_name_and_the_rest_is_fetched(tmp_path, waits, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_IMAGE_BYTES", 2**16)
    archive, told = hostile()
    with rxrx1_server(archive) as server:
        report = get(server, tmp_path / "a/b/out", waits, "rxrx1")
    assert set(report.failed) == set(told) and len(told) == len(HOSTILE) and report.fetched == 20 - len(told)
    for name, (kind, reason) in told.items():
        assert re.search(reason, report.failed[name]), kind
        if reason.startswith("is "):
            assert f"refused: the archive's member '{kind if '/' in kind else ''}" in report.failed[name]
            assert Path(name).name in report.failed[name]
    tables = ["fetch.json", "metadata.csv", "originals/metadata.csv", "originals/rxrx1-metadata.zip"]
    files = [p.relative_to(tmp_path / "a/b/out").as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(n for n in files if not n.startswith("images/RPE-01/Plate")) == tables


def test_hostile_tables(tmp_path, waits, rxrx19a_files):
    metadata, images = rxrx1_screen()
    link = zipfile.ZipInfo("rxrx1/metadata.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    two = pack({"a/metadata.csv": metadata, "b/metadata.csv": metadata})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    for table, message in (
        (two, "holds 2 tables where one is expected; found 'a/metadata.csv'"),
        (pack({"readme": b""}), "holds 0 tables"),
        (pack({"../metadata.csv": metadata}), "refused: .*'../metadata.csv' is no plain relative path"),
        (buffer.getvalue(), "refused: .*is a link"),
    ):
        with Server({"rxrx1-metadata.zip": table}) as server, pytest.raises(FetchError, match=message):
            get(server, tmp_path / "out", waits, "rxrx1")
    # A table that leads out of the folder through a column that becomes a path.
    lines = metadata.replace(b",RPE-01,1,", b",../../x,1,").replace(b"RPE-01_1", b"../../x_1")
    with rxrx1_server(images, lines) as server, pytest.raises(ValueError, match="experiment must be a plain name"):
        get(server, tmp_path / "deep/er/out", waits, "rxrx1")
    assert not list(tmp_path.rglob("x*"))


@settings(max_examples=60)
@given(st.text(st.sampled_from("ab./\\:\0\n "), max_size=8))
def test_a_safe_path_stays_in_its_folder(name):
    inside = Path(os.path.normpath(Path("/out") / name))
    if not is_unsafe(name):
        assert inside.is_relative_to("/out") and inside != Path("/out") and inside.as_posix() == f"/out/{name}"


def test_what_is_no_archive_fails_by_name(tmp_path, waits, monkeypatch):
    monkeypatch.setattr(_archives, "MAX_DIRECTORY_BYTES", 2**20)
    good = pack(rxrx1_screen()[1])
    end = good.rindex(b"PK\5\6")
    huge = good[: end + 12] + (2**31).to_bytes(4, "little") + good[end + 16 :]  # says that its directory is 2 GB
    for archive in (b"", b"x", NOISE * 20, good[:-30], huge, good.replace(b"PK\1\2", b"PK\1\3", 1)):
        with rxrx1_server(archive) as server:
            report = get(server, tmp_path / hashlib.sha256(archive).hexdigest(), waits, "rxrx1", where="plate == 1")
        assert len(report.failed) == 10 and all("rxrx1-images.zip" in reason for reason in report.failed.values())


def test_zip64(tmp_path, waits, monkeypatch):
    """Sizes, offsets and counts beyond 32 and 16 bits: zip64 records of small numbers, and 5 GiB (sparse)."""
    _, images = rxrx1_screen()
    wanted = {n.removeprefix("rxrx1/"): c for n, c in images.items() if "Plate1" in n and "_w5" not in n}
    sparse = tmp_path / "sparse.zip"
    with open(sparse, "wb") as file:
        file.truncate(5 * 2**30)
    with zipfile.ZipFile(sparse, "a") as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 100)
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
        records = pack(images)
    assert b"PK\6\6" in records and sparse.stat().st_size > 5 * 2**30
    for k, archive in enumerate((sparse, records)):
        with rxrx1_server(b"") as server:
            server.files["rxrx1-images.zip"] = archive
            report = get(server, tmp_path / f"out{k}", waits, "rxrx1", where="plate == 1")
            assert server.sent("images") < 2**20
        assert not report.failed
        assert {n: c for n, c in tree(tmp_path / f"out{k}").items() if n.startswith("images/")} == wanted


def test_a_comment_and_a_prefix_do_not_hide_the_directory(tmp_path, waits):
    buffer = io.BytesIO(b"#!/bin/self-extracting\n" + NOISE)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in rxrx1_screen()[1].items():
            archive.writestr(name, content)
        archive.comment = NOISE * 7
    with rxrx1_server(buffer.getvalue()) as server:
        assert get(server, tmp_path / "out", waits, "rxrx1").fetched == 20


# ---- tables once fetched ----


def test_a_damaged_table_is_fetched_again_and_another_one_refused(tmp_path, rxrx19a_files, waits):
    out = tmp_path / "out"
    with Server(rxrx19a_files) as server:
        get(server, out, waits, images=False)
        before = tree(out)
        (out / "originals/RxRx19a-metadata.zip").write_bytes(b"damaged")
        get(server, out, waits, images=False)
        assert tree(out) == before
        (out / "originals/metadata.csv").unlink()
        server.log.clear()
        get(server, out, waits, images=False)
        assert tree(out) == before and not server.log
        (out / "originals/RxRx19a-metadata.zip").unlink()
        server.files["RxRx19a-metadata.zip"] = pack({"metadata.csv": b"another"})
        for _ in range(2):
            with pytest.raises(FetchError, match="not what was first fetched.*sha256"):
                get(server, out, waits, images=False)
    assert (out / "originals/metadata.csv").read_bytes() == before["originals/metadata.csv"]


def test_embeddings_that_cannot_be_had_are_a_failure_not_an_end(tmp_path, rxrx19a_files, waits):
    del rxrx19a_files["RxRx19a-DL-embeddings.zip"]
    with Server(rxrx19a_files) as server:
        report = get(server, tmp_path / "out", waits, where="role == 'C+'", embeddings=True, images=False)
    assert list(report.failed) == ["embeddings.csv"] and (tmp_path / "out/metadata.csv").exists()


# ---- mistakes of the caller ----


def test_a_bad_query_names_the_columns(tmp_path, rxrx19a_files, waits):
    with Server(rxrx19a_files) as server:
        for where, message in (
            ("celltype == 'VERO'", "celltype.*columns are .*cell_type.*treatment_conc"),
            ("plate ==", "cannot select"),
            ("plate", "not a yes/no question"),
            ("plate == 9", "no well satisfies"),
        ):
            with pytest.raises(ValueError, match=message):
                get(server, tmp_path / "out", waits, where=where)
        assert not server.gets("images/")


def test_mistakes_are_found_before_anything_is_asked_for(tmp_path, waits, rxrx19a_files):
    table = tmp_path / "urls.json"
    table.write_text('{"rxrx19a": {"images": "http://127.0.0.1/x"}}')
    with Server(rxrx19a_files) as server:
        for options, message in (
            ({"dataset": "rxrx2"}, "unknown dataset 'rxrx2'; known are rxrx19a, rxrx1, bbbc021, bbbc013"),
            ({"dataset": "bbbc021", "embeddings": True}, "bbbc021 has no published embeddings"),
            ({"workers": 0}, "workers must be from 1 to 32"),
            ({"workers": 100}, "workers must be from 1 to 32"),
            ({"urls": tmp_path / "none.json"}, "not a readable table of URLs"),
            ({"urls": table}, "rxrx19a has no images; known are archive, embeddings, image, metadata"),
            ({"urls": {"rxrx3": {}}}, r"unknown dataset\(s\) rxrx3"),
            ({"urls": {"rxrx19a": {"image": "http://127.0.0.1/x"}}}, r"image must hold \{file\}"),
            ({"urls": {"rxrx19a": {"metadata": "file:///etc/passwd"}}}, r"must be an http\(s\) address"),
            ({"urls": {"rxrx19a": {"metadata": "http://127.0.0.1/"}}}, "must end in the name of a file"),
            ({"urls": []}, "must be like"),
        ):
            with pytest.raises(ValueError, match=message):
                get(server, tmp_path / "out", waits, **options)
        assert not server.log and not (tmp_path / "out").exists()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/metadata.csv").write_text("precious")
        with pytest.raises(ValueError, match="is not empty and holds no fetch.json"):
            get(server, tmp_path / "mine", waits)
        get(server, tmp_path / "out", waits, images=False)
        with pytest.raises(ValueError, match="holds rxrx19a, not rxrx1"):
            get(server, tmp_path / "out", waits, "rxrx1")
        (tmp_path / "out/fetch.json").write_text('{"dataset": "rxrx19a"')
        with pytest.raises(ValueError, match="not a record"):
            get(server, tmp_path / "out", waits)


def test_a_mirror_may_serve_images_in_another_way(tmp_path, waits):
    metadata, images = rxrx1_screen()
    files = {f"mirror/{n.removeprefix('rxrx1/images/')}": c for n, c in images.items()} | {"metadata.csv": metadata}
    with Server({n: _png() if n.endswith("png") else c for n, c in files.items()}) as server:
        table = tmp_path / "urls.json"
        own = {"image": f"{server.url}/mirror/{{file}}", "metadata": f"{server.url}/metadata.csv"}
        table.write_text(json.dumps({"rxrx1": own}))
        assert get(server, tmp_path / "out", waits, "rxrx1", urls=table).fetched == 20
    assert len(rxrx1.wells(tmp_path / "out")[0]) == 4


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_two_runs_do_not_share_a_folder(tmp_path, rxrx19a_files, waits):
    with Server(rxrx19a_files) as server, fetch._claim(tmp_path / "out", "rxrx19a"):
        with pytest.raises(ValueError, match="another `gandl fetch` is at work there"):
            get(server, tmp_path / "out", waits)
