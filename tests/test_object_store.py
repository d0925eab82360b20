"""Shards in object storage: a real S3 server (moto's, a process of its own) behind a door that can misbehave.

`MOTO_SERVER` is the server's executable. It may lie in another environment: nothing of moto is imported here.
"""

from __future__ import annotations

import gc
import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gandl_lib import cli, object_store, profiles, shards
from gandl_lib.shards import Shards

# Sessions of s3fs are closed by the garbage collector.
pytestmark = [pytest.mark.store, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs", reason="no s3fs here: pip install 'gandl[s3]'")
SERVER = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
if SERVER is None:
    pytest.skip("no S3 server here: `make test-store` brings moto's", allow_module_level=True)

EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Door:
    """Passes requests on to `port`. `faults`: what goes wrong with the next ones that match `method`, one each."""

    def __init__(self, port: int) -> None:
        self.faults: list[str] = []
        self.method, self.log = "GET", []
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = door.faults.pop(0) if door.faults and self.command == door.method else ""
                door.log.append((self.command, self.path, fault))
                if fault in ("503", "expired"):
                    self.answer(503 if fault == "503" else 400, {}, BUSY if fault == "503" else EXPIRED)
                    return
                if fault == "slow":
                    time.sleep(1.0)
                behind = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                behind.request(self.command, self.path, body, dict(self.headers))
                found = behind.getresponse()
                content = found.read()
                headers = {k: v for k, v in found.getheaders() if k.lower() not in ("content-length", "connection")}
                self.answer(found.status, headers, content, found.getheader("Content-Length"), fault == "truncate")

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do  # noqa: N815

            def answer(self, status: int, headers: dict, body: bytes, length: str | None = None, cut=False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = cut

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    """The port of a server of S3 on 127.0.0.1."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    command = [SERVER, "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | {"MOTO_S3_CUSTOM_ENDPOINTS": ""}, **quiet)
    begun = time.monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() - begun < 60, "the server did not come up"
            time.sleep(0.1)
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture
def door(s3, monkeypatch, tmp_path) -> Iterator[Door]:
    import s3fs

    door = Door(s3)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": door.url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"use_listings_cache": False})
    monkeypatch.setattr(object_store, "WAIT_S", 0.01)
    monkeypatch.chdir(tmp_path)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket") if not s3fs.S3FileSystem().exists("bucket") else None
    door.log.clear()
    yield door
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()  # closes what s3fs leaves open, and while such warnings are ignored
    door.http.shutdown()
    door.http.server_close()


@pytest.fixture
def here(make_screen, tmp_path) -> tuple[Path, Path]:
    """A screen, and its store here."""
    data = make_screen(size=(16, 16))
    return data, shards.write(data, tmp_path / "near.zarr", sites_per_shard=3)


def same(address: str, near: Path) -> None:
    far, near = Shards(address), Shards(near)
    assert far.wells.equals(near.wells) and np.array_equal(far.histograms, near.histograms)
    assert np.array_equal(far.read_many(np.arange(len(near))), near.read_many(np.arange(len(near))))
    assert np.array_equal(far.read(7), near.read(7))


def test_written_to_a_bucket_it_is_the_store_written_here_and_shows_last(door, here, monkeypatch):
    data, near = here
    address = shards.write(data, "s3://bucket/whole.zarr", sites_per_shard=3)
    same(address, near)
    puts = [path for method, path, _ in door.log if method == "PUT"]
    assert puts[-1].startswith("/bucket/whole.zarr/zarr.json") and len(puts) == len(set(puts)) > 8
    assert not list(Path.cwd().glob("*.sending*"))
    door.log.clear()
    monkeypatch.setattr(shards, "pack", None)
    shards.write(data, address, sites_per_shard=3)
    assert not [1 for method, *_ in door.log if method == "PUT"], "what is there is neither made nor sent again"
    with pytest.raises(ValueError, match="whole.zarr is there and was made from something else"):
        shards.write(data, address, sites_per_shard=4)


def test_the_command_embeds_from_a_bucket_what_it_embeds_from_a_folder(door, here, tmp_path):
    data, near = here
    cli.shard(data, "s3://bucket/embedded.zarr")
    door.faults, door.method = ["503", "", "truncate", "", "slow", "truncate"], "GET"
    cli.embed("intensity", "s3://bucket/embedded.zarr", tmp_path / "far.h5ad")
    assert not door.faults, "all faults were met"
    cli.embed("intensity", str(near), tmp_path / "near.h5ad")
    far, close = profiles.read(tmp_path / "far.h5ad"), profiles.read(tmp_path / "near.h5ad")
    assert np.array_equal(far.X, close.X) and far.obs.equals(close.obs)


@pytest.mark.parametrize("fault", ["503", "truncate", "slow"])
def test_a_bad_server_is_asked_again_and_the_bits_are_the_same(door, here, fault):
    data, near = here
    door.faults, door.method = [fault] * 3, "GET"
    address = shards.write(data, f"s3://bucket/get-{fault}.zarr", sites_per_shard=3)
    door.faults, door.method = [] if fault == "truncate" else [fault] * 3, "PUT"
    address = shards.write(data, f"s3://bucket/put-{fault}.zarr", sites_per_shard=3)
    door.faults, door.method = [fault] * 2, "GET"
    same(address, near)
    assert [f for *_, f in door.log if f], "no fault was met"


def test_expired_keys_and_a_missing_bucket_are_named_before_any_work(door, here):
    data, near = here
    with pytest.raises(ValueError, match="s3://nowhere/x.zarr.* no such bucket"):
        shards.write(data, "s3://nowhere/x.zarr")
    door.faults, door.method = ["expired"] * 50, "GET"
    with pytest.raises(ValueError, match="s3://bucket/x.zarr.*(expired|ExpiredToken)"):
        shards.write(data, "s3://bucket/x.zarr")
    with pytest.raises(ValueError, match="s3://bucket/x.zarr.*(expired|ExpiredToken)"):
        Shards("s3://bucket/x.zarr")
    assert not list(Path.cwd().glob("*.sending*"))


def test_an_interrupted_sending_shows_nothing_and_is_gone_on_with(door, here):
    data, near = here
    door.faults, door.method = ["", "", "", "", *["expired"] * 50], "PUT"
    with pytest.raises(ValueError, match="expired|ExpiredToken"):
        shards.write(data, "s3://bucket/later.zarr", sites_per_shard=3)
    with pytest.raises(ValueError, match="not shards .* no such file"):
        Shards("s3://bucket/later.zarr")
    door.faults = []
    door.log.clear()
    same(shards.write(data, "s3://bucket/later.zarr", sites_per_shard=3), near)
    puts = [path for method, path, _ in door.log if method == "PUT"]
    whole = len([p for p in near.rglob("*") if p.is_file()])
    assert len(puts) == whole - 4, "the four that had arrived are not sent again"
