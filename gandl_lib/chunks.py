"""The files of a store's images: shards of Zarr's sharding codec, a site in chunks of about 128 pixels.

A training crop of 32 pixels lies in one to four such chunks and need not unpack its site. On the way to a chunk, Zarr's
own reading takes some 2 ms, of which the decoder has 0.1; here an index kept in memory, one read and the decoder are
all. Files are as the specification has them, and any Zarr reads them: the chunks, each zstd, then the index, which is
(offset, bytes) of every chunk in C order as little-endian uint64, then the index's CRC-32C. In files written here the
chunks lie in that order too, so that a site, and a run of sites, is one stretch of a file and one request to a server.
Zarr's own order spreads the chunks of a site over the whole file.

Reference: zarr-specs, sharding codec 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import google_crc32c
import imagecodecs
import numpy as np

LEVEL = 3
"""Of zstd."""
NO_CHUNK = 2**64 - 1
"""Offset and bytes of a chunk that is not there, which is one of zeros: the last file's, and Zarr's where all are 0."""
SIDE_PX = 128

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_INDEX = [_BYTES, {"name": "crc32c"}]


def side(length: int) -> int:
    """Side of a chunk, about 128 pixels, such that chunks cover `length` pixels and the last one wastes least."""
    return math.ceil(length / max(1, round(length / SIDE_PX)))


def key(shard: int) -> str:
    """Where in the array's folder the file number `shard` lies."""
    return f"c/{shard}/0/0/0"


def encode(images: np.ndarray, chunk: tuple[int, int, int], sites: int) -> bytes:
    """A file of up to `sites` sites.

    Args:
        images: (N, C, H, W) uint8 or uint16.
        chunk: (C, h, w) of a chunk; the outer ones are filled up with zeros.
    """
    n, _, height, width = images.shape
    _, h, w = chunk
    rows, columns = math.ceil(height / h), math.ceil(width / w)
    index = np.full((sites, rows, columns, 2), NO_CHUNK, "<u8")
    parts, offset = [], 0
    for i, r, c in product(range(n), range(rows), range(columns)):
        part = images[i, :, r * h : (r + 1) * h, c * w : (c + 1) * w].astype(images.dtype.newbyteorder("<"), copy=False)
        part = np.pad(part, [(0, 0), (0, h - part.shape[1]), (0, w - part.shape[2])])
        parts.append(imagecodecs.zstd_encode(np.ascontiguousarray(part), level=LEVEL))
        index[i, r, c] = offset, len(parts[-1])
        offset += len(parts[-1])
    end = index.tobytes()
    return b"".join([*parts, end, google_crc32c.value(end).to_bytes(4, "little")])


class Images:
    """The array of a store's images, read chunk by chunk. Several threads may read at once.

    Args:
        metadata: the array's zarr.json.
        fetch: (key, start, stop) to those bytes of a file; start from the end and stop None for the last ones.
        where: what errors call the array.
        sparse: whether a file that is not there is one of zeros, as Zarr leaves them out; not so in those of `encode`.

    Attributes:
        shape: (N, C, H, W).
        dtype: uint8 or uint16.

    Raises:
        ValueError: the array is kept in another way than stores of ours are.
    """

    def __init__(
        self, metadata: dict[str, Any], fetch: Callable[[str, int, int | None], bytes], where: str, sparse: bool
    ) -> None:
        self.shape, self.dtype = tuple(metadata["shape"]), np.dtype(metadata["data_type"])
        self._fetch, self._where, self._sparse = fetch, where, sparse
        self._per_file, *inner = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        codec = metadata["codecs"][0]
        sharding = codec.get("configuration", {})
        one, channels, *self._chunk = sharding.get("chunk_shape", (0, 0))
        order, pack = (*sharding.get("codecs", ()), None, None)[:2]
        known = (
            codec["name"] == "sharding_indexed"
            and (one, channels) == (1, self.shape[1])
            and order in (_BYTES, {"name": "bytes"})  # one byte has no order
            and pack is not None
            and pack["name"] == "zstd"
            and sharding["index_codecs"] == _INDEX
            and sharding.get("index_location", "end") == "end"
        )
        if not known:
            raise ValueError(f"{where}: images packed in another way than `gandl shard` does; write them anew.")
        self._grid = [length // chunk for length, chunk in zip(inner[1:], self._chunk, strict=True)]
        self._indices: dict[int, np.ndarray] = {}  # 16 bytes a chunk: 0.3 GB for the 20 million of RxRx19a

    def read(self, first: int, stop: int, y: int, y_stop: int, x: int, x_stop: int) -> np.ndarray:
        """A window of the sites `first` to `stop` - 1: (N, C, H, W) integers. Reads no chunk that it does not touch.

        Raises:
            ValueError: a file is missing, cut off or damaged.
        """
        result = np.empty((stop - first, self.shape[1], y_stop - y, x_stop - x), self.dtype)
        h, w = self._chunk
        rows, columns = range(y // h, math.ceil(y_stop / h)), range(x // w, math.ceil(x_stop / w))
        for shard in range(first // self._per_file, math.ceil(stop / self._per_file)):
            begin = shard * self._per_file
            sites = range(max(first - begin, 0), min(stop - begin, self._per_file))
            touched = self._index(shard)[sites.start : sites.stop, rows.start : rows.stop, columns.start : columns.stop]
            places = product(sites, rows, columns)
            for (i, r, c), packed in zip(places, self._packed(shard, touched.reshape(-1, 2).tolist()), strict=True):
                top, left = max(r * h, y), max(c * w, x)
                bottom, right = min(r * h + h, y_stop), min(c * w + w, x_stop)
                into = result[begin + i - first, :, top - y : bottom - y, left - x : right - x]
                if packed is None:
                    into[...] = 0
                else:
                    chunk = self._unpack(shard, packed)
                    into[...] = chunk[:, top - r * h : bottom - r * h, left - c * w : right - c * w]
        return result

    def _index(self, shard: int) -> np.ndarray:
        """(offset, bytes) of the chunks of a file: (sites, rows, columns, 2)."""
        if shard not in self._indices:
            size = 16 * self._per_file * math.prod(self._grid)
            try:
                end = self._fetch(key(shard), -size - 4, None)
            except FileNotFoundError:
                if self._sparse:
                    return np.full((self._per_file, *self._grid, 2), NO_CHUNK, "<u8")
                raise ValueError(f"{self._where}/{key(shard)} is missing; copy or write the store anew.") from None
            if len(end) != size + 4 or google_crc32c.value(end[:-4]).to_bytes(4, "little") != end[-4:]:
                raise self._damaged(shard)
            self._indices[shard] = np.frombuffer(end[:-4], "<u8").reshape(self._per_file, *self._grid, 2)
        return self._indices[shard]

    def _packed(self, shard: int, entries: list[list[int]]) -> list[memoryview | None]:
        """The bytes of chunks; neighbours in the file are read at once."""
        found, k = [], 0
        while k < len(entries):
            start, size = entries[k]
            if start == NO_CHUNK:
                found.append(None)
                k += 1
                continue
            stop, first = start + size, k
            while (k := k + 1) < len(entries) and entries[k][0] == stop:
                stop += entries[k][1]
            content = memoryview(self._fetch(key(shard), start, stop))
            if len(content) != stop - start:
                raise self._damaged(shard)
            found += [content[begin - start : begin - start + size] for begin, size in entries[first:k]]
        return found

    def _unpack(self, shard: int, packed: memoryview) -> np.ndarray:
        """(C, h, w)."""
        try:
            values = np.frombuffer(imagecodecs.zstd_decode(packed), self.dtype.newbyteorder("<"))
            return values.reshape(self.shape[1], *self._chunk)
        except (RuntimeError, ValueError):
            raise self._damaged(shard) from None

    def _damaged(self, shard: int) -> ValueError:
        return ValueError(f"{self._where}/{key(shard)} is cut off or damaged; copy or write the store anew.")
