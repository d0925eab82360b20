"""Prebuilt results: what the chapters show, in one file beside the book, so that nobody has to wait for it.

    python -m gandl_book.bundle pack results/quick gandl-results-quick.zip
    python -m gandl_book.bundle verify gandl-results-quick.zip

A bundle is a zip with one member a result, and `manifest.json`: what made them (version, commit, sums of the library's
files and of the profile's configuration, provenance.json) and each member's size and sha256. A result that is a folder
is a zip itself. So a chapter that shows three tables fetches three tables, by range requests, and not the stores of the
others.

Left out are what only a resumed training reads and images of real screens, which have licences of their own.

**Never half used.** `take` answers with all that was asked for or with nothing, and says why in one sentence. A result
gets its name in the cache after its sha256 agreed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gandl_lib
from gandl_lib import files
from gandl_lib.fetch.archives import directory, refusal, unpack
from gandl_lib.fetch.transfer import Again, Changed, Client, FetchError, Patience
from gandl_lib.paths import is_unsafe

FORMAT = 1
MANIFEST = "manifest.json"
ADDRESS = "https://github.com/gandl-executable/gandl/releases/download/v{version}/gandl-results-{profile}.zip"
"""Where bundles are published; the environment's GANDL_BUNDLE names another address or file, or `none`."""
PUBLISHED = ("quick",)
"""Profiles that have one there."""

MAX_BYTES = 2**31
UNUSED = ("state.safetensors", "best.safetensors", "embeddings")
"""Names within folders that no chapter opens: what resumes a training, and profiles that a screen has joined."""

_IMPATIENT = Patience(retries=1, first_wait_s=0.3, longest_wait_s=2.0, timeout_s=10.0)
"""There is another way to the same results, so a server that fails is not begged."""


class Refused(ValueError):
    """A bundle that is not used, and why: the end of a sentence."""


# ---- packing ----


def holds(name: str) -> str:
    """What has to be packed for result `name`: itself, or the folder around it where a plate is somebody's own."""
    return "/".join(name.split("/")[:2]) if name.startswith("own/") else name


def pack(results: Path, out: Path, names: Iterable[str], config: Path, commit: str | None = None) -> dict[str, Any]:
    """Write a bundle of what lies in a results folder; the same folder gives the same bytes.

    Args:
        results: say results/quick, made by the workflow.
        out: the zip to write.
        names: results, as `chapters.needs` lists them; one that ends in `?` may be missing.
        config: the profile's configuration, config/<profile>.yaml.
        commit: of the library that made them.

    Returns:
        the manifest.

    Raises:
        ValueError: a result that may not be missing is.
    """
    wanted = {holds(n.rstrip("?")): True for n in names} | {holds(n): False for n in names if not n.endswith("?")}
    lacking = sorted(name for name, optional in wanted.items() if not optional and not (results / name).exists())
    if lacking:
        raise ValueError(f"{results} lacks {', '.join(lacking)}; run the workflow to its end first.")
    provenance = results / "provenance.json"
    manifest: dict[str, Any] = {
        "bundle": FORMAT,
        "version": gandl_lib.__version__,
        "commit": commit,
        "profile": config.stem,
        "config_sha256": files.sha256(config),
        "library_sha256": library_sha256(),
        "provenance": json.loads(provenance.read_text()) if provenance.exists() else None,
        "left_out": {},
        "members": {},
    }
    with files.replacing(out) as partial, zipfile.ZipFile(partial, "w") as bundle:
        for name in sorted(n for n in wanted if (results / n).exists()):
            if reason := _unfit(name, results / name):
                manifest["left_out"][name] = reason
                continue
            folder = (results / name).is_dir()
            content = _zipped(results / name) if folder else (results / name).read_bytes()
            member = name.replace("/", "_") + (".zip" if folder else "")
            entry = {"member": member, "folder": folder, "bytes": len(content)}
            manifest["members"][name] = entry | {"sha256": hashlib.sha256(content).hexdigest()}
            _add(bundle, member, content, zipfile.ZIP_STORED if folder else zipfile.ZIP_DEFLATED)
        _add(bundle, MANIFEST, json.dumps(manifest, indent=1).encode(), zipfile.ZIP_DEFLATED)
    return manifest


def _unfit(name: str, path: Path) -> str | None:
    """Why a result is left out of bundles; None where it is not."""
    if name.startswith("data/") and path.is_dir():
        return "a screen's images"
    header = path / "zarr.json"
    if name.startswith("shards/") and not json.loads(header.read_text()).get("attributes", {}).get("simulated"):
        return "images of a real screen, which has a licence of its own"
    return None


def _zipped(folder: Path) -> bytes:
    """A folder's files as a zip, without what is `UNUSED`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            inside = path.relative_to(folder)
            if not set(UNUSED) & set(inside.parts) and path.suffix != ".partial":
                _add(archive, inside.as_posix(), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, how: int) -> None:
    archive.writestr(zipfile.ZipInfo(name), content, how)  # a ZipInfo of this kind is dated 1980: no clock in the bytes


def library_sha256() -> str:
    """One sum of all Python files of the library, by their names: whether results were made by these very files."""
    top = Path(gandl_lib.__file__).parent
    listed = "".join(f"{p.relative_to(top).as_posix()} {files.sha256(p)}\n" for p in sorted(top.rglob("*.py")))
    return hashlib.sha256(listed.encode()).hexdigest()


# ---- reading, near or far ----


class _Near:
    """A bundle in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, members: list[str], folder: Path) -> dict[str, Path]:
        found = {}
        try:
            with zipfile.ZipFile(self.path) as bundle:
                for name in members:
                    if reason := refusal(bundle.getinfo(name), MAX_BYTES):
                        raise Refused(f"is {reason}")
                    with bundle.open(name) as packed, open(folder / name, "wb") as file:
                        shutil.copyfileobj(packed, file)
                    found[name] = folder / name
        except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
            raise Refused(f"is no whole bundle ({error})") from None
        except OSError as error:
            raise Refused(f"cannot be read ({error.strerror or error})") from None
        return found


class _Far:
    """A bundle on a server that gives parts of files."""

    def __init__(self, client: Client, url: str) -> None:
        self.client, self.url = client, url

    def read(self, members: list[str], folder: Path) -> dict[str, Path]:
        found = {}
        try:
            for name, candidates in directory(self.client, self.url, folder / "directory", members).items():
                if len(candidates) != 1:
                    raise Refused(f"is no whole bundle (it holds {len(candidates)} members called {name})")
                ((info, span, validator),) = candidates
                if reason := refusal(info, MAX_BYTES, span):
                    raise Refused(f"is {reason}")
                raw = folder / f"{name}.raw"
                self.client.download(self.url, raw, span=span, validator=validator)
                unpack(raw, info, folder / name)
                raw.unlink()
                found[name] = folder / name
        except (OSError, Again, Changed) as error:
            raise Refused(f"cannot be had ({error})") from None
        return found


@contextmanager
def _opened(address: str, scratch: Path) -> Iterator[_Near | _Far]:
    if "://" not in address:
        yield _Near(Path(address).expanduser())
        return
    with Client(_IMPATIENT) as client:
        try:
            client.parts(address)
        except FetchError as error:
            if "no parts" not in str(error):
                raise Refused(f"cannot be had ({error})") from None
            whole = scratch / "whole.zip"  # a server that gives whole files only
            try:
                client.download(address, whole)
            except (OSError, Again) as failed:
                raise Refused(f"cannot be had ({failed})") from None
            yield _Near(whole)
            return
        yield _Far(client, address)


def _manifest(path: Path) -> dict[str, Any]:
    """A manifest whose every field has its kind."""
    try:
        manifest = json.loads(path.read_text())
        if manifest["bundle"] != FORMAT:
            raise Refused(f"has format {manifest['bundle']}; this library reads format {FORMAT}")
        for name, entry in manifest["members"].items():
            if is_unsafe(name) or is_unsafe(entry["member"]) or "/" in entry["member"]:
                raise Refused(f"has a member {name!r}, which is no plain name")
            int(entry["bytes"]), str(entry["sha256"]), bool(entry["folder"])
        manifest["version"], manifest["profile"], manifest["config_sha256"], manifest["library_sha256"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"has a manifest that cannot be read ({error!r})") from None
    return manifest


def _checked(path: Path, entry: dict[str, Any]) -> Path:
    if path.stat().st_size != entry["bytes"] or files.sha256(path) != entry["sha256"]:
        raise Refused(f"holds a {entry['member']} whose sha256 is not the one in its manifest")
    return path


def _place(path: Path, entry: dict[str, Any], to: Path) -> None:
    """Put a checked member where it belongs in the cache, whole."""
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f"{to.name}.{os.getpid()}.partial")
    if entry["folder"]:
        try:
            with zipfile.ZipFile(path) as archive:
                if any(is_unsafe(name) for name in archive.namelist()):
                    raise Refused(f"holds a {entry['member']} with names that lead elsewhere")
                archive.extractall(partial)
        except zipfile.BadZipFile as error:
            raise Refused(f"holds a {entry['member']} that cannot be unpacked ({error})") from None
    else:
        shutil.copyfile(path, partial)
    try:
        partial.rename(to)
    except OSError:  # another chapter was here first, with the same bytes
        shutil.rmtree(partial, ignore_errors=True)
        if not to.exists():
            raise


def verify(address: str) -> dict[str, Any]:
    """Read all of a bundle and compare every sum; returns its manifest.

    Raises:
        ValueError: it cannot be had, is truncated, or a member is not what the manifest says.
    """
    try:
        with TemporaryDirectory() as folder, _opened(address, Path(folder)) as bundle:
            manifest = _manifest(bundle.read([MANIFEST], Path(folder))[MANIFEST])
            members = {entry["member"]: entry for entry in manifest["members"].values()}
            for name, path in bundle.read(list(members), Path(folder)).items():
                _checked(path, members[name])
    except Refused as error:
        raise ValueError(f"{address} {error}.") from None
    return manifest


# ---- taking ----


def cache() -> Path:
    """Where results taken from bundles are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gandl")


def address(profile: str) -> str | None:
    """Where the bundle of a profile is looked for; None where nowhere."""
    named = os.environ.get("GANDL_BUNDLE", "")
    if named:
        return None if named == "none" else named
    return ADDRESS.format(version=gandl_lib.__version__, profile=profile) if profile in PUBLISHED else None


def take(profile: str, names: Iterable[str], config: Path) -> list[Path | None] | None:
    """Paths of prebuilt results, fetched and checked; None, and a sentence on stderr, where not all can be had.

    Args:
        profile: whose results.
        names: as for `chapters.need`; one that ends in `?` and is not in the bundle comes back as None.
        config: this project's config/<profile>.yaml; results made with another one are not taken.
    """
    names, where = list(names), address(profile)
    if where is None:
        return None
    try:
        taken, manifest = _take(where, profile, names, config)
    except Refused as error:
        print(f"Prebuilt results are not used: {where} {error}.", file=sys.stderr, flush=True)
        return None
    made_by = f"version {manifest['version']}" + (f" at {manifest['commit'][:10]}" if manifest["commit"] else "")
    other = "" if manifest["library_sha256"] == library_sha256() else ", whose library differs from the one here,"
    print(f"Prebuilt results of profile {profile}, by {made_by}{other} are shown; `fresh = True` makes them here.")
    return taken


def _take(where: str, profile: str, names: list[str], config: Path) -> tuple[list[Path | None], dict[str, Any]]:
    last = cache() / f"{hashlib.sha256(where.encode()).hexdigest()[:16]}.json"
    cache().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache()) as scratch, _opened_or_known(where, Path(scratch), last) as (bundle, manifest):
        for field, here in (("version", gandl_lib.__version__), ("profile", profile)):
            if manifest[field] != here:
                raise Refused(f"is of {field} {manifest[field]}; wanted is {here}")
        if manifest["config_sha256"] != files.sha256(config):
            raise Refused(f"was made with another {config.name} than the one here")
        entries = manifest["members"]
        lacking = [n for n in names if not n.endswith("?") and holds(n) not in entries]
        if lacking:
            raise Refused(f"holds no {', '.join(lacking)}")
        wanted = [holds(n.rstrip("?")) for n in names]
        kept = cache() / f"{profile}-{hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]}"
        missing = [n for n in dict.fromkeys(wanted) if n in entries and not (kept / n).exists()]
        if missing and bundle is None:
            raise Refused("cannot be had, and what was kept of it before is not enough")
        if missing:
            found = bundle.read([entries[n]["member"] for n in missing], Path(scratch))
            for name in missing:  # all are compared before the first is used
                _checked(found[entries[name]["member"]], entries[name])
            for name in missing:
                _place(found[entries[name]["member"]], entries[name], kept / name)
    return [kept / n.rstrip("?") if holds(n.rstrip("?")) in entries else None for n in names], manifest


@contextmanager
def _opened_or_known(where: str, scratch: Path, last: Path) -> Iterator[tuple[_Near | _Far | None, dict[str, Any]]]:
    """The bundle and its manifest; without a network no bundle, and the manifest that was read there the last time."""
    try:
        opened = _opened(where, scratch)
        bundle = opened.__enter__()
    except Refused:
        if not last.exists():
            raise
        yield None, _manifest(last)
        return
    try:
        found = bundle.read([MANIFEST], scratch)[MANIFEST]
        manifest = _manifest(found)
        files.write(last, found.read_bytes())
        yield bundle, manifest
    finally:
        opened.__exit__(None, None, None)


def _main(verb: str, *paths: str) -> None:
    from gandl_book import chapters

    if verb == "pack":
        results, out = map(Path, paths)
        top = chapters.root()
        names = [name for path in sorted((top / "notebooks").glob("[0-9][0-9]_*.py")) for name in chapters.needs(path)]
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True)
        commit = git.stdout.strip() if git.returncode == 0 else None
        manifest = pack(results, out, names, top / "config" / f"{results.resolve().name}.yaml", commit)
    else:
        (out,) = map(Path, paths)
        manifest = verify(paths[0])
    size = sum(entry["bytes"] for entry in manifest["members"].values())
    print(f"{out}: {len(manifest['members'])} results of profile {manifest['profile']}, {size / 1e6:.1f} MB.")
    for name, reason in manifest["left_out"].items():
        print(f"  without {name}: {reason}")


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("pack", "verify"):
        sys.exit(__doc__)
    try:
        _main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"bundle: {error}")
