"""Single files out of zip archives, far or near, none of which is trusted.

The directory of a zip stands at its end. Python's zipfile reads it through a file that brings bytes by range requests;
what a member occupies is then one range. Names inside an archive choose a member and never become paths. Refused by
name are members that are no plain file under a plain relative path, that are encrypted, that overlap with others, and
those whose sizes are beyond a limit or beyond what deflate can do; unpacking stops at the size that the directory says.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from gandl_lib.fetch.transfer import Again, Changed, Client, FetchError
from gandl_lib.paths import is_unsafe

MAX_DIRECTORY_BYTES = 2**30
MAX_DEFLATE = 1032
"""n bytes deflated are more than n / 1032; an archive that says otherwise lies."""

_TAIL_BYTES = 2**17  # holds a zip's end records with the longest comment, 65,535 bytes
_HEADER_BYTES = 30


class Member(NamedTuple):
    """A file in an archive far away."""

    info: zipfile.ZipInfo
    span: tuple[int, int]
    """Its bytes in the archive: from its header to, at most, where the next member begins."""
    validator: str
    """Of the archive whose directory this is."""


def directory(client: Client, url: str, scratch: Path, wanted: Collection[str]) -> dict[str, list[Member]]:
    """Find the members of an archive whose name is, or ends in `/` and, one of `wanted`.

    Args:
        scratch: name of a file that holds the directory while it is read.
        wanted: relative paths, all of the same depth.

    Returns:
        for each of `wanted` the members of that name; none or several, too.

    Raises:
        FetchError: the server gives no parts of files, or there is no archive that can be read.
    """
    for _ in range(3):
        size, validator = client.parts(url)

        def read(start: int, stop: int, validator: str = validator) -> bytes:
            client.download(url, scratch, span=(start, stop), validator=validator)
            content = scratch.read_bytes()
            scratch.unlink()
            return content

        try:
            with zipfile.ZipFile(_RemoteFile(size, read)) as archive:  # type: ignore[arg-type]
                infos, end = archive.infolist(), archive.start_dir
            break
        except Changed:
            continue
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise FetchError(f"{url}: the archive's directory cannot be read ({error})") from None
    else:
        raise FetchError(f"{url}: changes while it is read")

    starts = sorted({info.header_offset for info in infos})
    ends = dict(zip(starts, [*starts[1:], end], strict=True))
    found: dict[str, list[Member]] = {name: [] for name in wanted}
    depth = next(iter(wanted)).count("/") + 1
    for info in infos:
        name = "/".join(info.filename.split("/")[-depth:])
        if name in found:
            start = info.header_offset
            # Its name and extra field take up to 65,535 bytes each; whatever else lies before the next is not needed.
            longest = start + _HEADER_BYTES + 2 * 65535 + info.compress_size
            found[name].append(Member(info, (start, min(ends[start], longest)), validator))
    return found


def refusal(info: zipfile.ZipInfo, limit: int, span: tuple[int, int] | None = None) -> str | None:
    """Why a member must not be unpacked, naming it; None where it may. `limit` is in bytes."""
    name, packed, size = info.orig_filename, info.compress_size, info.file_size
    reason = None
    if is_unsafe(name):
        reason = "is no plain relative path"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        reason = "is a link or a device, not a file"
    elif info.flag_bits & 0x1:
        reason = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = f"is packed by method {info.compress_type}; known are stored (0) and deflate (8)"
    elif max(size, packed) > limit:
        reason = f"is {size:,} bytes ({packed:,} packed), over the limit of {limit:,}"
    elif size > MAX_DEFLATE * packed or (info.compress_type == zipfile.ZIP_STORED and size != packed):
        reason = f"is said to hold {size:,} bytes in {packed:,}, which cannot be"
    elif span and not 0 <= span[0] <= span[1] - _HEADER_BYTES - packed:
        reason = "overlaps with another"
    return reason and f"refused: the archive's member {name!r} {reason}"


def unpack(raw: Path, info: zipfile.ZipInfo, target: Path) -> None:
    """Write what a member holds to `target`.

    Args:
        raw: file of the member's bytes in the archive, from its header on.

    Raises:
        Again: the bytes do not unpack to the size and CRC-32 in the directory.
    """
    with open(raw, "rb") as file:
        header = file.read(_HEADER_BYTES)
        if header[:4] != b"PK\x03\x04":
            raise Again("what was sent is no member of a zip archive")
        file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)  # lengths of its name and extra field
        content = file.read(info.compress_size)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, info.file_size + 1)
        except zlib.error as error:
            raise Again(f"what was sent cannot be unpacked ({error})") from None
    if len(content) > info.file_size:
        raise Again(
            f"what was sent unpacks to more than the {info.file_size:,} bytes that the archive's directory says"
        )
    if len(content) < info.file_size or zlib.crc32(content) != info.CRC:
        raise Again("what was sent has not the length and CRC-32 that the archive's directory says")
    target.write_bytes(content)


class _RemoteFile:
    """As much of a file as zipfile needs to read an archive's directory. `read_span` brings bytes from afar."""

    def __init__(self, size: int, read_span: Callable[[int, int], bytes]) -> None:
        self.size, self.at, self.read_span = size, 0, read_span
        self.tail_at = max(0, size - _TAIL_BYTES)
        self.tail = read_span(self.tail_at, size) if size else b""

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        if self.at < 0:
            raise ValueError("it is too short")  # no OSError: those are the machine's own, like a full disk
        return self.at

    def read(self, n: int = -1) -> bytes:
        start, stop = self.at, self.size if n < 0 else min(self.at + n, self.size)
        self.at = max(start, stop)
        if stop - start > MAX_DIRECTORY_BYTES:
            raise ValueError(f"it is said to be {stop - start:,} bytes, over the limit of {MAX_DIRECTORY_BYTES:,}")
        if start >= self.tail_at:
            return self.tail[start - self.tail_at : stop - self.tail_at]
        return self.read_span(start, stop)
