"""Prebuilt results: what is packed is what is taken, and anything else is refused with a sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from gandl_book import bundle, chapters
from server import Server

NAMES = [
    "a.csv",
    "b.csv?",
    "c.csv?",
    "runs/m",
    "shards/s.zarr",
    "shards/real.zarr?",
    "own/data/metadata.csv",
    "data/x?",
]
FILES = {
    "a.csv": "x\n1\n",
    "b.csv": "y\n2\n",
    "unasked.csv": "z\n",
    "provenance.json": '{"seed": 0}',
    "runs/m/weights.safetensors": "weights",
    "runs/m/state.safetensors": "what only resuming needs",
    "shards/s.zarr/zarr.json": '{"attributes": {"simulated": true}}',
    "shards/s.zarr/images/c/0": "pixels",
    "shards/real.zarr/zarr.json": '{"attributes": {"simulated": false}}',
    "own/data/metadata.csv": "well\n",
    "own/data/images/1.tif": "tif",
    "data/x/metadata.csv": "site\n",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "results" / "quick" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "results" / "quick"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "quick.yaml").write_text("seed: 0\n")
    return tmp_path / "config" / "quick.yaml"


@pytest.fixture
def packed(results: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bundle, "_IMPATIENT", bundle.Patience(retries=0, timeout_s=2.0))
    out = tmp_path / "bundle.zip"
    bundle.pack(results, out, NAMES, config, "0123456789abcdef")
    monkeypatch.setenv("GANDL_BUNDLE", str(out))
    return out


def test_a_bundle_holds_what_chapters_open_and_no_more(packed: Path) -> None:
    manifest = bundle.verify(str(packed))
    assert set(manifest["members"]) == {"a.csv", "b.csv", "runs/m", "shards/s.zarr", "own/data"}
    assert set(manifest["left_out"]) == {"shards/real.zarr", "data/x"}
    assert manifest["provenance"] == {"seed": 0} and manifest["commit"] == "0123456789abcdef"


def test_the_same_folder_gives_the_same_bytes(packed: Path, results: Path, config: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "again")  # other times of files
    bundle.pack(tmp_path / "again", tmp_path / "again.zip", reversed(NAMES), config, "0123456789abcdef")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_what_may_not_be_missing_is_missed_before_anything_is_written(results: Path, config: Path) -> None:
    (results / "a.csv").unlink()
    with pytest.raises(ValueError, match=r"quick lacks a\.csv; run the workflow"):
        bundle.pack(results, results / "out.zip", NAMES, config)
    assert not list(results.glob("out*"))


@pytest.mark.parametrize("how", ["file", "parts", "whole"])
def test_what_is_packed_is_what_is_taken(
    packed: Path, config: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file, from a server that gives parts of files, and from one that does not."""
    with Server({"b.zip": packed}) as server:
        if how == "whole":
            server.always = {"*": "whole"}
        if how != "file":
            monkeypatch.setenv("GANDL_BUNDLE", f"{server.url}/b.zip")
        found = bundle.take("quick", NAMES, config)
        assert found is not None, capsys.readouterr().err
        a, b, c, m, s, real, own, x = found
        assert (a.read_text(), b.read_text(), c, real, x) == ("x\n1\n", "y\n2\n", None, None, None)
        assert [p.name for p in m.iterdir()] == ["weights.safetensors"]
        assert (s / "images/c/0").read_text() == "pixels" and (own.parent / "images/1.tif").read_text() == "tif"
        said = capsys.readouterr()
        assert "Prebuilt results of profile quick" in said.out and "fresh = True" in said.out and not said.err
        asked = len(server.log)
        assert bundle.take("quick", NAMES, config) == found
        again = [r for r in server.log[asked:] if r.range not in (None, "bytes=0-0")]
        assert len(again) <= 4  # the directory and the manifest, no member anew
    # Without a network, what was taken before is still there.
    capsys.readouterr()
    if how != "file":
        assert bundle.take("quick", ["a.csv"], config) == [a]
        assert bundle.take("quick", ["a.csv", "d.csv"], config) is None
        assert "holds no d.csv" in capsys.readouterr().err


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    if how == "checksum":
        members["a.csv"] = b"x\n7\n"
    elif how == "size":
        members["a.csv"] += b"8\n"
    elif how == "lost":
        del members["a.csv"]
    elif how == "name":
        manifest["members"]["../../a.csv"] = manifest["members"].pop("b.csv")
    elif how == "format":
        manifest["bundle"] = 99
    elif how == "no manifest":
        manifest = {}
    else:
        manifest[how] = "other"
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("truncated", "no whole bundle"),
        ("checksum", "holds a a.csv whose sha256"),
        ("size", "holds a a.csv whose sha256"),
        ("lost", "no whole bundle"),
        ("name", "no plain name"),
        ("format", "has format 99"),
        ("no manifest", "a manifest that cannot be read"),
        ("version", "is of version other; wanted is"),
        ("profile", "is of profile other; wanted is quick"),
        ("config_sha256", "made with another quick.yaml"),
    ],
)
def test_a_bad_bundle_is_never_half_used(
    packed: Path, config: Path, how: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(packed, how)
    assert bundle.take("quick", ["b.csv?", "a.csv"], config) is None
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert not list(bundle.cache().glob("quick-*/*"))
    if how not in ("version", "profile", "config_sha256"):
        with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
            bundle.verify(str(packed))


def test_results_of_another_library_say_so(packed: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(packed, "library_sha256")
    assert bundle.take("quick", ["a.csv"], config) is not None
    assert "whose library differs from the one here" in capsys.readouterr().out


def test_nowhere_is_asked_where_there_is_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDL_BUNDLE", "none")
    assert bundle.address("quick") is None
    monkeypatch.delenv("GANDL_BUNDLE")
    assert bundle.address("gpu") is None and bundle.address("quick").endswith("gandl-results-quick.zip")
    assert set(bundle.PUBLISHED) <= set(chapters.profiles())


def test_need_takes_prebuilt_results_unless_told_not_to(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prebuilt where the workflow has made nothing; its own where it has; `fresh` runs it."""
    (tmp_path / "clone" / "config").mkdir(parents=True)
    shutil.copy(tmp_path / "config" / "quick.yaml", tmp_path / "clone" / "config")
    (tmp_path / "clone" / "Snakefile").write_text(
        "rule a:\n    output: 'results/quick/a.csv'\n    shell: 'echo fresh > {output}'\n"
    )
    monkeypatch.chdir(tmp_path / "clone")
    a, b = chapters.need("quick", "a.csv", "b.csv?")
    assert a.read_text() == "x\n1\n" and b is not None and not Path("results").exists()
    a, b = chapters.need("quick", "a.csv", "b.csv?", fresh=True)
    assert a.read_text() == "fresh\n" and b is None
    a, b = chapters.need("quick", "a.csv", "b.csv?")  # what is here goes before what is elsewhere, and alone
    assert a.read_text() == "fresh\n" and b is None


def test_a_typo_is_caught_before_anything_is_fetched(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server({"b.zip": packed}) as server:
        monkeypatch.setenv("GANDL_BUNDLE", f"{server.url}/b.zip")
        with pytest.raises(ValueError, match="Did you mean 'quick'"):
            chapters.need("quikc", "a.csv")
        assert not server.log
