"""Get a part of a public screen: its tables whole, and only the images that a query over the metadata asks for.

RxRx19a is 450 GB, RxRx1's archive 45 GB, a plate of BBBC021 0.8 GB; most questions need a few hundred sites. Where the
publisher serves every image as a file, files are asked for one by one. Where images lie in zip archives, the archive's
directory is read from its end and each member by one HTTP range request, so no archive is ever downloaded.

What a server sends is not trusted until it is checked, and no file has its final name before that:

===================  ==========================================================================
single images        length, and the CRC of every PNG chunk
members of archives  size and CRC-32 as the archive's directory states them
zipped tables        size and CRC-32 of the member, sha256 of the archive
other tables         length, sha256
===================  ==========================================================================

The sha256 of a table is written to `fetch.json` when it is first fetched, and checked ever after.

The folder has the layout that the loaders read: `metadata.csv`, which lists the chosen sites only, and `images/`.
`originals/` keeps what was published, unchanged. BBBC021's images lie in `images/<Image_PathName>/<Image_FileName>` and
its chosen fields in `BBBC021_v1_image.csv`; BBBC013's in `images/`, with the plate map beside them.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gandl_lib import files
from gandl_lib.datasets import _recursion, bbbc013, rxrx1, rxrx19a
from gandl_lib.fetch.archives import Member, directory, refusal, unpack
from gandl_lib.fetch.transfer import Again, Changed, Client, FetchError, Patience, Stopped, partial_path
from gandl_lib.paths import is_unsafe

__all__ = ["URLS", "FetchError", "Patience", "Report", "fetch", "url_table"]

URLS: dict[str, dict[str, str]] = {
    "rxrx19a": {
        "metadata": "https://storage.googleapis.com/rxrx/RxRx19a/RxRx19a-metadata.zip",
        "embeddings": "https://storage.googleapis.com/rxrx/RxRx19a/RxRx19a-DL-embeddings.zip",
        "image": "https://storage.googleapis.com/rxrx/RxRx19a/images/{file}",
    },
    "rxrx1": {
        "metadata": "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-metadata.zip",
        "embeddings": "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-dl-embeddings.zip",
        "archive": "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-images.zip",
    },
    "bbbc021": {
        "metadata": "https://data.broadinstitute.org/bbbc/BBBC021/BBBC021_v1_image.csv",
        "compounds": "https://data.broadinstitute.org/bbbc/BBBC021/BBBC021_v1_compound.csv",
        "mechanisms": "https://data.broadinstitute.org/bbbc/BBBC021/BBBC021_v1_moa.csv",
        "archive": "https://data.broadinstitute.org/bbbc/BBBC021/BBBC021_v1_images_{plate}.zip",
    },
    "bbbc013": {
        "metadata": "https://data.broadinstitute.org/bbbc/BBBC013/BBBC013_v1_platemap_all.txt",
        "archive": "https://data.broadinstitute.org/bbbc/BBBC013/BBBC013_v1_images_bmp.zip",
    },
}
"""Where everything lies; no other file names these homes. A table is a CSV file or a zip that holds one. `image` is one
file an image, `archive` a zip of them; either can be given for any dataset. `{file}` stands for
`<experiment>/Plate<k>/<well>_s<site>_w<channel>.png`, for BBBC021 `<plate>/<name>.tif`; `{plate}` for its plate."""

TABLES = {
    "rxrx19a": {"metadata": "originals/metadata.csv"},
    "rxrx1": {"metadata": "originals/metadata.csv"},
    "bbbc021": {
        "metadata": "originals/BBBC021_v1_image.csv",
        "compounds": "BBBC021_v1_compound.csv",
        "mechanisms": "BBBC021_v1_moa.csv",
    },
    "bbbc013": {"metadata": f"originals/{bbbc013.PLATE_MAP}"},
}
"""Where whole tables lie. The chosen rows of `metadata` go to the same file name one folder up."""
SUMS = {
    "bbbc013": {
        "metadata": "e8db6666271d47962fa7d2abfa3ea965352b8e87bee461f2983d0f667bc7ff08",
        "archive": "c059b569d96f70ad5626fad144867e6ece4353622119c46a8af8f9794f1e7985",
    },
}
"""sha256 of files that are brought whole and never change; wherever they come from, they must be these."""
EMBEDDINGS = "embeddings.csv"
RECORD = "fetch.json"

MAX_IMAGE_BYTES = 2**28
MAX_TABLE_BYTES = 2**34
"""What claims to be larger is refused."""
MAX_WORKERS = 32
MAX_FAILURES_IN_A_ROW = 100
"""After so many failures without one success between them the fault is not with the files."""
SAMPLE = 24
"""So many single files are asked for their size, to estimate that of all."""
LINE_MBIT_S = 100
"""The line that an estimate of time is for."""

_BBBC021_STAINS = ("DAPI", "Tubulin", "Actin")


@dataclass(frozen=True)
class Report:
    """What a run did; `str()` says it in words."""

    out: Path
    sites: int
    images: int
    """Of the chosen sites; 0 where none were asked for."""
    present: int = 0
    """Images that were there before."""
    fetched: int = 0
    bytes_fetched: int = 0
    bytes_expected: float | None = None
    """To be transferred for the images that were not there; None where the server gives no sizes."""
    failed: dict[str, str] = field(default_factory=dict)
    """Path under `out` and reason, for all that was asked for and cannot be had."""

    def __str__(self) -> str:
        lines = [
            f"{self.out}: {self.sites:,} sites with {self.images:,} images: {self.fetched:,} fetched "
            f"({_size(self.bytes_fetched)}), {self.present:,} already there, {len(self.failed):,} failed."
        ]
        alike: dict[str, list[str]] = {}
        for name, reason in self.failed.items():
            alike.setdefault(reason, []).append(name)
        for reason, names in list(alike.items())[:10]:
            lines.append(f"  {names[0]}{f' and {len(names) - 1:,} more' * (len(names) > 1)}: {reason}")
        if len(alike) > 10:
            lines.append(f"  and so on; all are in {self.out / RECORD}.")
        if self.failed:
            lines.append("All else is kept; the same command tries the failed files again.")
        return "\n".join(lines)


def fetch(
    dataset: str,
    out: str | Path,
    *,
    where: str | None = None,
    images: bool = True,
    embeddings: bool = False,
    urls: str | Path | Mapping[str, Mapping[str, str]] | None = None,
    workers: int = 8,
    dry_run: bool = False,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
) -> Report:
    """Fetch the tables of a public screen, and the images of the sites that a query chooses.

    The same call goes on where an interrupted one stopped and does not fetch again what is there. `metadata.csv` is
    written last. It lists the sites of the latest call, those of failed images too: the loaders skip and count sites
    that are incomplete.

    Args:
        dataset: `rxrx19a`, `rxrx1`, `bbbc021` or `bbbc013`.
        out: folder to make or to continue.
        where: pandas query over the metadata; all sites where not given. The first two take the columns of the wells
            table and the publisher's own, bbbc021 those of BBBC021_v1_image.csv, bbbc013 those of the wells table.
        images: fetch images; without, tables only.
        embeddings: fetch the published embeddings too, whole, to `embeddings.csv`.
        urls: a table like `URLS`, or a JSON file of one; what it names replaces ours.
        workers: files at a time, at most 32.
        dry_run: fetch the metadata, print what the rest would take, and stop.
        patience: what to do when a server fails.

    Returns:
        what happened. Single files that cannot be had are in its `failed`, and the caller's to look at.

    Raises:
        ValueError: an unknown dataset, a query that cannot be evaluated (naming the columns there are), a folder that
            holds something else, or too little room.
        OSError: the metadata cannot be had, a published table is not the one fetched first, or the folder cannot be
            written to.
    """
    addresses = url_table(dataset, urls)
    if embeddings and "embeddings" not in addresses:
        raise ValueError(f"{dataset} has no published embeddings; rxrx19a and rxrx1 have.")
    if not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers must be from 1 to {MAX_WORKERS}, to be polite to public servers; it is {workers}.")
    out = Path(out)
    with _claim(out, dataset) as record, Client(patience) as client:
        for key, name in TABLES[dataset].items():
            _fetch_table(client, addresses[key], out, name, record, SUMS.get(dataset, {}).get(key))
        metadata = Path(TABLES[dataset]["metadata"])
        sites, jobs = _choose(dataset, out / metadata, where, addresses)
        print(f"{dataset}: {len(sites):,} sites chosen, with {len(jobs):,} images", flush=True)

        run = _Images(client, out, workers)
        if images and "archive" in SUMS.get(dataset, {}):
            run.fetch_whole(jobs, addresses["archive"], record, SUMS[dataset]["archive"], dry_run)
        elif images:
            run.fetch(jobs, dry_run)
        failed = run.failed
        if embeddings and not dry_run:
            try:
                _fetch_table(client, addresses["embeddings"], out, EMBEDDINGS, record)
            except FetchError as error:
                failed[EMBEDDINGS] = str(error)
        failed = dict(sorted(failed.items()))
        n_images = len(jobs) if images else 0
        report = Report(out, len(sites), n_images, run.present, run.fetched, run.bytes, run.bytes_expected, failed)
        if not dry_run:
            table = (
                (out / metadata).read_bytes()
                if where is None or dataset == "bbbc013"  # whose plate map is a list of 96 doses
                else sites.to_csv(index=False, lineterminator="\n").encode()
            )
            files.write(out / metadata.name, table)
            files.write_json(
                out / RECORD, record | {"where": where, "sites": len(sites), "images": n_images, "failed": failed}
            )
            print(report, flush=True)
    return report


def url_table(dataset: str, urls: str | Path | Mapping[str, Mapping[str, str]] | None = None) -> dict[str, str]:
    """The row of `URLS` for a dataset, with what the user's table `urls` replaces.

    Raises:
        ValueError: naming what is unknown, is no http(s) address, or lacks its `{file}` or `{plate}`.
    """
    if dataset not in URLS:
        raise ValueError(f"unknown dataset {dataset!r}; known are {', '.join(URLS)}.")
    source = "urls"
    if isinstance(urls, str | Path):
        source = str(urls)
        try:
            urls = json.loads(Path(urls).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{source}: not a readable table of URLs ({error}).") from None
    tables = {} if urls is None else urls
    if not isinstance(tables, Mapping) or not all(isinstance(row, Mapping) for row in tables.values()):
        raise ValueError(f"{source}: must be like {json.dumps({dataset: URLS[dataset]})}.")
    if unknown := set(tables) - set(URLS):
        raise ValueError(f"{source}: unknown dataset(s) {', '.join(sorted(unknown))}; known are {', '.join(URLS)}.")
    own = tables.get(dataset, {})
    known = {*URLS[dataset], "image", "archive"}
    if unknown := set(own) - known:
        found, known = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise ValueError(f"{source}: {dataset} has no {found}; known are {known}.")
    # Images have one home: naming another kind of it replaces ours.
    defaults = {
        k: v for k, v in URLS[dataset].items() if k not in ("image", "archive") or not own.keys() & {"image", "archive"}
    }
    table = {**defaults, **own}
    for key, url in table.items():
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise ValueError(f"{source}: {dataset}.{key} must be an http(s) address; it is {url!r}.")
        needs = "{file}" if key == "image" else "{plate}" if key == "archive" and dataset == "bbbc021" else ""
        if needs not in url:
            raise ValueError(f"{source}: {dataset}.{key} must hold {needs}; it is {url!r}.")
        if key not in ("image", "archive") and (is_unsafe(_name(url)) or url.endswith(".partial")):
            raise ValueError(f"{source}: {dataset}.{key} must end in the name of a file; it is {url!r}.")
    return table


# ---- what is wanted ----


class _Job(NamedTuple):
    """One image."""

    path: str
    """Where it goes under OUT, and what it is called where it comes from:"""
    remote: str
    address: str
    """With `{file}` or `{plate}` to be filled in."""
    archived: bool
    member: Member | None = None

    @property
    def url(self) -> str:
        """Of the image or of its archive."""
        plate = self.remote.partition("/")[0]
        return self.address.replace("{plate}", quote(plate, "")).replace("{file}", quote(self.remote))


def _choose(
    dataset: str, path: Path, where: str | None, addresses: Mapping[str, str]
) -> tuple[pd.DataFrame, list[_Job]]:
    """The chosen rows of the publisher's own table, as text, and their images."""
    if dataset == "bbbc021":
        columns = [f"Image_{kind}Name_{stain}" for stain in _BBBC021_STAINS for kind in ("Path", "File")]
        text = _recursion.table(path, columns, "BBBC021")
        rows = pd.DataFrame(index=text.index)
    elif dataset == "bbbc013":
        rows = bbbc013.parse(path)
        text = rows.astype(str)
    else:
        layout = {"rxrx19a": rxrx19a, "rxrx1": rxrx1}[dataset]
        text = _recursion.table(path, layout.COLUMNS, dataset)
        rows = layout.parse(path)
    rows = rows.assign(**{c: _typed(text[c]) for c in text.columns if c not in rows.columns}, row=np.arange(len(text)))
    chosen = _recursion.select(rows, where)
    text = text.iloc[chosen["row"]].reset_index(drop=True)

    if dataset == "bbbc013":
        names = [file.name for well in text["well"] for file in bbbc013.files(Path(), well)]
        return text, [_Job(f"images/{name}", name, addresses["archive"], True) for name in names]
    if dataset == "bbbc021":
        stains = [(text[f"Image_PathName_{stain}"], text[f"Image_FileName_{stain}"]) for stain in _BBBC021_STAINS]
        pairs = [
            (f"{p}/{f}", f"{posixpath.basename(p)}/{f}") for columns in stains for p, f in zip(*columns, strict=True)
        ]
    else:
        files = (file for row in chosen.itertuples() for file in _recursion.files("", row, layout._FILES))
        pairs = [(name, name) for name in (file.as_posix().removeprefix("images/") for file in files)]
    archived = "archive" in addresses
    address = addresses["archive" if archived else "image"]
    return text, [_Job(f"images/{local}", remote, address, archived) for local, remote in dict.fromkeys(pairs)]


def _typed(text: pd.Series) -> pd.Series:
    """A text column as numbers where it holds nothing else, so that a query can compare them."""
    number, empty = pd.to_numeric(text, errors="coerce"), text.eq("")
    return number if (number.notna() | empty).all() and not empty.all() else text


# ---- images ----


class _Images:
    """Brings the images that are not there and counts what happens."""

    def __init__(self, client: Client, out: Path, workers: int) -> None:
        self.client, self.out, self.workers = client, out, workers
        self.lock = threading.Lock()
        self.present = self.fetched = self.bytes = 0
        self.bytes_expected: float | None = 0.0
        self.failed: dict[str, str] = {}
        self.in_a_row = 0
        self.changed: list[_Job] = []

    def fetch(self, jobs: Sequence[_Job], dry_run: bool) -> None:
        todo = []
        for job in jobs:
            if is_unsafe(job.path):
                self.failed[job.path] = "refused: the metadata name a file that is no plain relative path"
            elif (self.out / job.path).exists():
                self.present += 1
            else:
                todo.append(job)
        located = self._locate(todo)
        self._estimate(located, dry_run)
        if dry_run:
            return
        for _ in range(3):
            self.changed = []
            self._all(self._one, located, "images")
            if not self.changed:
                return
            located = self._locate(self.changed)
        self.failed |= {job.path: f"{job.url}: changes while it is read" for job in self.changed}

    def fetch_whole(self, jobs: Sequence[_Job], url: str, record: dict[str, Any], sha256: str, dry_run: bool) -> None:
        """Bring the one archive that holds all images, if it is the published one, and unpack what is not there yet."""
        todo = [job for job in jobs if not (self.out / job.path).is_file()]
        self.present = len(jobs) - len(todo)
        archive = self.out / "originals" / _name(url)
        there = archive.is_file() and files.sha256(archive) == sha256
        size = None if there or not todo else self.client.size(url)
        self.bytes_expected = float(size) if size is not None else 0.0 if there or not todo else None
        words = (
            "already there"
            if there
            else "not needed"
            if not todo
            else f"{_size(size)} to transfer, {_duration(size)}"
            if size
            else "size unknown"
        )
        print(
            f"to fetch: {len(todo):,} images from {archive.name} ({words}); {self.present:,} are already there",
            flush=True,
        )
        if dry_run or not todo:
            return
        if not there:
            archive.unlink(missing_ok=True)
            self.client.download(url, archive, check=partial(_check_sum, url=url, sha256=sha256), limit=MAX_TABLE_BYTES)
            self.bytes = archive.stat().st_size
        record["originals"][archive.name] = {"url": url, "bytes": archive.stat().st_size, "sha256": sha256}
        files.write_json(self.out / RECORD, record)
        with zipfile.ZipFile(archive) as packed:
            members: dict[str, list[zipfile.ZipInfo]] = {}
            for info in packed.infolist():
                members.setdefault(posixpath.basename(info.filename).lower(), []).append(info)
            for job in todo:
                found = members.get(job.remote.lower(), [])
                if len(found) != 1:
                    self.failed[job.path] = f"{url}: holds {len(found)} files called {job.remote}"
                elif reason := refusal(found[0], MAX_IMAGE_BYTES):
                    self.failed[job.path] = f"{url}: {reason}"
                else:
                    path = self.out / job.path
                    path.parent.mkdir(exist_ok=True)
                    files.write(path, packed.read(found[0]))  # checks the CRC
                    self.fetched += 1

    def _locate(self, jobs: Sequence[_Job]) -> list[_Job]:
        """Look archived images up in the directories of their archives; those that are not there or refused fail."""
        archives: dict[str, list[_Job]] = {}
        for job in jobs:
            if job.archived:
                archives.setdefault(job.url, []).append(job)
        if not archives:
            return list(jobs)
        located: list[_Job] = []

        def one(url: str) -> None:
            scratch = self.out / "originals" / f"{_name(url)}.directory"
            try:
                members = directory(self.client, url, scratch, {job.remote for job in archives[url]})
            except FetchError as error:
                self.failed |= {job.path: str(error) for job in archives[url]}
                return
            for job in archives[url]:
                found = members[job.remote]
                if len(found) != 1:
                    self.failed[job.path] = f"{url}: holds {len(found)} files of this name"
                elif reason := refusal(found[0].info, MAX_IMAGE_BYTES, found[0].span):
                    self.failed[job.path] = f"{url}: {reason}"
                else:
                    located.append(job._replace(member=found[0]))

        self._all(one, list(archives), "archive directories")
        return sorted(located, key=lambda job: (job.url, job.member.span))  # as they lie on the server's disk

    def _estimate(self, jobs: Sequence[_Job], dry_run: bool) -> None:
        """Print what is to be fetched and how many bytes that takes; refuse what does not fit on the disk."""
        members = [job.member for job in jobs if job.member is not None]
        room: float | None = float(sum(member.info.file_size for member in members))
        self.bytes_expected = float(sum(member.span[1] - member.span[0] for member in members))
        words = f"{_size(self.bytes_expected)} to transfer from {len({job.url for job in jobs})} archive(s)"
        words += f", {_duration(self.bytes_expected)}"
        if jobs and not members:
            sizes: list[int] = []

            def ask(job: _Job) -> None:
                with suppress(FetchError):
                    if (size := self.client.size(job.url)) is not None:
                        sizes.append(size)

            places = np.linspace(0, len(jobs) - 1, min(SAMPLE, len(jobs))).astype(int)
            began = time.monotonic()
            self._all(ask, [jobs[i] for i in places])
            waited_s = len(jobs) * (time.monotonic() - began) / len(places)  # each file is a question of its own
            room = self.bytes_expected = len(jobs) * float(np.mean(sizes)) if sizes else None
            words = "the server gives no sizes"
            if sizes:
                words = f"about {_size(room)}, as {len(sizes)} of them are {_size(room / len(jobs))} on average; "
                words += f"{_duration(room, waited_s)}, with the server's answers as quick as just now"
        there = f"{self.present:,} are already there, {len(self.failed):,} cannot be had"
        print(f"to fetch: {len(jobs):,} images ({words if jobs else 'nothing'}); {there}", flush=True)
        free = shutil.disk_usage(self.out).free
        if room is not None and room > free:
            words = f"{self.out}: the images chosen need {_size(room)}, and {_size(free)} are free there"
            if not dry_run:
                raise ValueError(f"{words}. Make room, or choose fewer sites.")
            print(words, flush=True)

    def _all(self, work: Callable[[Any], None], items: Sequence[Any], name: str = "") -> None:
        """Do `work` on all items, `workers` at a time; the first exception that it lets out ends them all."""
        queue = iter(items)
        with (
            tqdm(total=len(items), desc=name, unit="file", delay=2, disable=not name) as bar,
            ThreadPoolExecutor(self.workers) as pool,
        ):

            def worker() -> None:
                while not self.client.stop.is_set():
                    with self.lock:
                        item = next(queue, None)
                    if item is None:
                        return
                    with suppress(Stopped):
                        work(item)
                    with self.lock:
                        bar.update()

            futures = [pool.submit(worker) for _ in range(min(self.workers, len(items)))]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.client.stop.set()
                raise

    def _one(self, job: _Job) -> None:
        if self.in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.failed[job.path] = f"not tried, after {MAX_FAILURES_IN_A_ROW} failures in a row"
            return
        path = self.out / job.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if job.member is not None:
                info, span, validator = job.member
                unpacked = partial_path(path, ".unpacked")
                check = partial(unpack, info=info, target=unpacked)
                self.client.download(job.url, path, span=span, validator=validator, check=check, result=unpacked)
            elif path.suffix.lower() == ".png":
                self.client.download(job.url, path, check=_check_png, finds_end=True, limit=MAX_IMAGE_BYTES)
            else:
                self.client.download(job.url, path, limit=MAX_IMAGE_BYTES)
        except Changed:
            self.changed.append(job)
        except FetchError as error:
            with self.lock:
                self.failed[job.path] = str(error)
                self.in_a_row += 1
        else:
            with self.lock:
                self.fetched += 1
                self.bytes += path.stat().st_size
                self.in_a_row = 0


def _check_png(path: Path) -> None:
    """Check the CRC of every chunk of a PNG, from its signature to its end."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except Exception as error:  # Pillow raises half a dozen kinds, its own and Python's
        raise Again(f"what was sent is no undamaged PNG ({error})") from None


# ---- tables ----


def _check_sum(file: Path, url: str, sha256: str) -> None:
    """Let no file pass but the published one."""
    digest = files.sha256(file)
    if digest != sha256:
        raise Again(f"not the file that was published: its sha256 is {digest}, it must be {sha256}")


def _fetch_table(
    client: Client, url: str, out: Path, name: str, record: dict[str, Any], sha256: str | None = None
) -> None:
    """Bring a published file into `originals/`, put the table that it is or holds at `name`, and enter its sha256.

    Where `sha256` is given, nothing else will do.
    """
    target, path = out / name, out / "originals" / _name(url)
    path.parent.mkdir(exist_ok=True)
    known = record["originals"].get(path.name, {}).get("sha256")

    def check(file: Path) -> None:
        if sha256 is not None:
            _check_sum(file, url, sha256)
        digest = files.sha256(file)
        if known not in (None, digest):
            file.unlink()
            raise FetchError(
                f"{url}: not what was first fetched into {out}; its sha256 is {digest}, it was {known}. Fetch into "
                "another folder, so that nothing is made from a mixture"
            )
        if zipfile.is_zipfile(file):
            _extract(file, target, url)
        elif path.suffix == ".zip":
            raise Again("what was sent is no zip archive")
        elif target != path:
            with files.replacing(target) as made:
                shutil.copyfile(file, made)

    there = path.is_file() and (known is None or files.sha256(path) == known)
    if there and (known is None or not target.exists()):
        try:
            check(path)
        except Again:
            there = False
    if not there:
        if path.exists():
            print(f"{path} is damaged and fetched again", flush=True)
            path.unlink()
        client.download(url, path, check=check, limit=MAX_TABLE_BYTES, finds_end=path.suffix == ".zip")
    size = path.stat().st_size
    if known is None:
        record["originals"][path.name] = {"url": url, "bytes": size, "sha256": files.sha256(path)}
        files.write_json(out / RECORD, record)
    print(f"{name} from {path.name}: {'already there' if there else 'fetched'}, {_size(size)}", flush=True)


def _extract(archive: Path, target: Path, url: str) -> None:
    """Unpack the one table that a zip archive holds; names inside only decide which one that is."""
    try:
        with zipfile.ZipFile(archive) as file:
            tables = [info for info in file.infolist() if info.filename.endswith(".csv")]
            tables = [info for info in tables if posixpath.basename(info.filename) == target.name] or tables
            if len(tables) != 1:
                found = ", ".join(repr(info.filename) for info in file.infolist()[:5])
                raise FetchError(f"{url}: holds {len(tables)} tables where one is expected; found {found}")
            if reason := refusal(tables[0], MAX_TABLE_BYTES):
                raise FetchError(f"{url}: {reason}")
            need, free = tables[0].file_size, shutil.disk_usage(target.parent).free
            if need > free:
                raise ValueError(f"{target}: needs {_size(need)}, and {_size(free)} are free there. Make room.")

            with files.replacing(target) as made, file.open(tables[0]) as source, open(made, "wb") as sink:
                shutil.copyfileobj(source, sink, 2**20)  # reads no more than the size, checks the CRC
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Again(f"what was sent is no undamaged zip archive ({error})") from None


# ---- files ----


@contextmanager
def _claim(out: Path, dataset: str) -> Iterator[dict[str, Any]]:
    """Hold the folder for this process and give its record; refuse a folder of something else."""
    path = out / RECORD
    files.is_ours(out, RECORD)
    record: dict[str, Any] = {"dataset": dataset, "originals": {}}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            if path.is_file():
                try:
                    record = json.loads(path.read_text())
                    whole = "dataset" in record and all("sha256" in entry for entry in record["originals"].values())
                except (ValueError, KeyError, TypeError, AttributeError):
                    whole = False
                if not whole:
                    raise ValueError(f"{path}: not a record that `gandl fetch` wrote. Choose another folder.")
                if record["dataset"] != dataset:
                    raise ValueError(f"{out} holds {record['dataset']}, not {dataset}. Choose another folder.")
            files.write_json(out / RECORD, record)
            yield record
    except FetchError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(
            error.errno,
            f"cannot write {error.filename or out}: {reason}. What is whole is kept; make room (or "
            "the folder writable) and run the same command again",
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let no second run write into the folder; the system takes the lock back when a process dies."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another `gandl fetch` is at work there; wait for it.") from None
        except OSError:
            pass  # some network file systems know no locks
        yield
    finally:
        os.close(handle)


def _name(url: str) -> str:
    """The file name at the end of an address."""
    return posixpath.basename(urlsplit(url).path)


def _duration(n_bytes: float, waited_s: float = 0.0) -> str:
    """How long so many bytes take on a line of `LINE_MBIT_S`, and what is waited for besides, in minutes."""
    minutes = (n_bytes * 8e-6 / LINE_MBIT_S + waited_s) / 60
    words = "less than a minute" if minutes < 1 else f"about {minutes:,.0f} minute{'s' * (round(minutes) != 1)}"
    return f"{words} at {LINE_MBIT_S} Mbit/s"


def _size(n: float) -> str:
    """A number of bytes for people, in powers of ten as disks are sold."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:,.0f} bytes" if unit == "bytes" else f"{n:,.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} GB"
