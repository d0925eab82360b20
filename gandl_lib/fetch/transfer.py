"""A file from a server, whole and checked under its final name, or not at all.

A download is a file `<name>.partial` beside `<name>.validator.partial`, which holds the server's ETag (or date). With
both it goes on where it stopped, in this run or a later one, if the server still has the same version. A body's length
is compared with the one announced; what it holds is checked by the caller's own `check` before it gets its name.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import requests
import urllib3

CHUNK = 2**16
PROGRESS_BYTES = 2**20
"""A try that brought so much more of a file starts the count of its failures anew."""

_AGENT = f"gandl/{version('gandl')} (+https://github.com/gandl-executable/gandl)"
_T = TypeVar("_T")


class FetchError(OSError):
    """A file that cannot be had, and why."""


class Again(Exception):
    """Failed, but may succeed later. `wait_s`: after how long, when the server says so."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Changed(Exception):
    """A file of which a part was asked for is no longer the version that was meant."""


class Stopped(Exception):
    """Another thread ended the run."""


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait for a server that fails.

    Waits double from `first_wait_s`, each shortened by up to half at random so that workers do not return together. A
    Retry-After is obeyed; one beyond `longest_wait_s` gives the file up.
    """

    retries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 60.0
    sleep: Callable[[float], object] | None = None
    """None: sleep, but wake up when the run ends."""


class Client:
    """Asks servers, again where that may help, and puts what they send into files. Threads may share it.

    Attributes:
        stop: set it, and every thread that downloads raises `Stopped`.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.stop = threading.Event()
        self._mine = threading.local()
        self._sessions: list[requests.Session] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def size(self, url: str) -> int | None:
        """The length of a file in bytes, if the server tells."""

        def attempt() -> int | None:
            with self.ask(url, "HEAD") as answer:
                return _integer(answer.headers.get("Content-Length"))

        return self._patiently(url, attempt)

    def parts(self, url: str) -> tuple[int, str]:
        """The length and the validator of a file that the server gives parts of; FetchError where it does not."""

        def attempt() -> tuple[int, str]:
            with self.ask(url, Range="bytes=0-0") as answer:
                _, size = _content_range(answer)
                if answer.status_code != 206 or size is None:
                    raise Again("the server gives no parts of this archive; name a mirror that does (--urls)")
                return size, _validator(answer)

        return self._patiently(url, attempt)

    def download(
        self,
        url: str,
        path: Path,
        *,
        span: tuple[int, int] | None = None,
        validator: str = "",
        check: Callable[[Path], object] | None = None,
        result: Path | None = None,
        limit: int | None = None,
        finds_end: bool = False,
    ) -> None:
        """Bring a file, or the bytes `span` of it, and give it its final name once it is whole and checked.

        Args:
            path: the final name.
            span: first byte and the one after the last.
            validator: of the version of the file that the span is meant for.
            check: raises `Again` for a file that has its length but is damaged.
            result: made by `check`; gets the final name instead of what was downloaded.
            limit: bytes beyond which the file is refused.
            finds_end: `check` notices a missing end, so the file may come without a length.

        Raises:
            FetchError: it cannot be had.
            Changed: there is a span, and the server has another version.
        """
        file, note = partial_path(path), partial_path(path, ".validator")
        part = _Part(self, url, file, note, span, validator, check, limit, finds_end)
        self._patiently(url, part.bring, part.have)
        # In this order a kill leaves nothing that a later run would not use or overwrite.
        part.note.unlink(missing_ok=True)
        if result is not None:
            part.file.unlink()
        os.replace(result or part.file, path)

    def _patiently(self, url: str, attempt: Callable[[], _T], reached: Callable[[], int] = lambda: 0) -> _T:
        """The result of `attempt`, tried until it succeeds or has failed too often. `reached`: bytes brought so far."""
        failures, best, patience = 0, reached(), self.patience
        while True:
            try:
                return attempt()
            except Again as error:
                now = reached()
                failures = 1 if now >= best + PROGRESS_BYTES else failures + 1
                best, wait_s = max(best, now), error.wait_s
                if failures > patience.retries:
                    raise FetchError(f"{url}: {error}; given up after {failures} tries") from None
                if wait_s is not None and wait_s > patience.longest_wait_s:
                    raise FetchError(f"{url}: {error} and asks to come back in {wait_s:,.0f} s") from None
            backoff_s = min(patience.first_wait_s * 2 ** (failures - 1), patience.longest_wait_s)
            jittered_s = backoff_s * random.uniform(0.5, 1)
            (patience.sleep or self.stop.wait)(jittered_s if wait_s is None else wait_s + 0.1 * jittered_s)

    @contextmanager
    def ask(self, url: str, method: str = "GET", **headers: str) -> Iterator[requests.Response]:
        """An answer of status 200, 206 or 416 whose body is still to be read; else `Again` or `FetchError`."""
        if self.stop.is_set():
            raise Stopped
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with self._session().request(
                method, url, headers=headers, stream=True, timeout=self.patience.timeout_s
            ) as answer:
                code = answer.status_code
                if code in (408, 425, 429) or code >= 500:
                    raise Again(f"the server answers {code} {answer.reason}", _retry_after(answer))
                if code not in (200, 206, 416):
                    raise FetchError(f"{url}: the server answers {code} {answer.reason}")
                encoding = answer.headers.get("Content-Encoding", "identity")
                if encoding != "identity":
                    raise FetchError(f"{url}: the server sends it with Content-Encoding {encoding}, unasked")
                yield answer
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.HTTPError,
        ) as error:
            raise Again(f"the connection failed ({_cause(error)})") from None
        except requests.RequestException as error:
            raise FetchError(f"{url}: {error}") from None

    def _session(self) -> requests.Session:
        """One session, so one open connection to a server, for each thread."""
        if not hasattr(self._mine, "session"):
            self._mine.session = session = requests.Session()
            session.headers.update({"User-Agent": _AGENT, "Accept-Encoding": "identity"})
            session.max_redirects = 5
            self._sessions.append(session)
        return self._mine.session


@dataclass(frozen=True)
class _Part:
    """One download under way; the arguments of `Client.download`. `note` says which version `file` begins."""

    client: Client
    url: str
    file: Path
    note: Path
    span: tuple[int, int] | None
    validator: str
    check: Callable[[Path], object] | None
    limit: int | None
    finds_end: bool

    def have(self) -> int:
        """Bytes brought so far."""
        return self.file.stat().st_size if self.file.exists() else 0

    def bring(self) -> None:
        """Bring what is missing, and check the whole."""
        have, known, span = self.have(), _read_note(self.note, self.span), self.span
        if not known or (span and (known != self.validator or have > span[1] - span[0])):
            have, known = 0, self.validator
        if not span or have < span[1] - span[0]:
            self._transfer(have, known)
        if self.check is not None:
            try:
                self.check(self.file)
            except Again as error:
                raise self._discard(str(error)) from None

    def _discard(self, reason: str) -> Again:
        self.note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
        return Again(reason)

    def _transfer(self, have: int, known: str) -> None:
        """Ask from byte `have` on, of the version `known`, and write what comes."""
        span = self.span
        first = (span[0] if span else 0) + have
        headers = {"Range": f"bytes={first}-{span[1] - 1 if span else ''}"} if span or have else {}
        if headers and known:
            headers["If-Range"] = known
        with self.client.ask(self.url, **headers) as answer:
            found, (at, total) = _validator(answer), _content_range(answer)
            if span and found and known and found != known:
                raise Changed
            if answer.status_code == 416:
                if not span and have and total == have:
                    return  # whole already
                raise self._discard("the server says that there is no such part of the file")
            if answer.status_code == 200:
                if span:
                    raise Again("the server ignores that only a part of the file was asked for")
                have, total = 0, _integer(answer.headers.get("Content-Length"))
            elif not headers or at != first or (found and known and found != known):
                raise self._discard("the server sent another part or version of the file than was asked for")
            expected = span[1] - span[0] if span else total
            if self.limit is not None and expected is not None and expected > self.limit:
                raise FetchError(f"{self.url}: refused: {expected:,} bytes, over the limit of {self.limit:,}")
            have = self._write(answer, have, found or known, self.limit if expected is None else expected)
            chunked = "chunked" in answer.headers.get("Transfer-Encoding", "")
        if expected is not None and have < expected:
            raise Again(f"the connection ended after {have:,} of {expected:,} bytes")
        if expected is None and not chunked and not self.finds_end:
            self._confirm_end(have, found)

    def _write(self, answer: requests.Response, have: int, validator: str, most: int | None) -> int:
        """Write a body behind the `have` bytes that are there; returns how many there are then."""
        with open(self.file, "ab" if have else "wb") as file:
            if not have:  # after the old content is gone: a note never stands beside another version
                self.note.write_text(json.dumps([validator, self.span]))
            for chunk in answer.iter_content(CHUNK):
                if self.client.stop.is_set():
                    raise Stopped
                have += len(chunk)
                if most is not None and have > most:
                    raise self._discard(f"the server sends more than {most:,} bytes")
                file.write(chunk)
        return have

    def _confirm_end(self, have: int, known: str) -> None:
        """Where the server did not say how long a file is, ask for what comes after its end."""
        with self.client.ask(self.url, Range=f"bytes={have}-", **({"If-Range": known} if known else {})) as answer:
            if answer.status_code != 416 or _content_range(answer)[1] not in (None, have):
                raise self._discard("the server does not say how long the file is")


def partial_path(path: Path, what: str = "") -> Path:
    """Where a file lies while it is made."""
    return path.with_name(f"{path.name}{what}.partial")


def _read_note(path: Path, span: tuple[int, int] | None) -> str:
    """The validator of the partial file beside, if that is of the same part; else empty."""
    try:
        validator, found = json.loads(path.read_text())
    except (OSError, ValueError, TypeError):
        return ""
    return validator if found == (list(span) if span else None) and isinstance(validator, str) else ""


def _validator(answer: requests.Response) -> str:
    """What names this version of a file for If-Range: a strong ETag or a date; empty where there is none."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _content_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total length that an answer states, each None where it does not."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    return (_integer(match[1]), _integer(match[2])) if match else (None, None)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds that the server asks to wait, as a number or until a date."""
    text = answer.headers.get("Retry-After", "")
    if (seconds := _integer(text)) is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _cause(error: BaseException) -> str:
    """What the innermost of several exceptions says: the libraries wrap a socket's error again and again."""
    for inner in (getattr(error, "reason", None), *reversed(error.args)):
        if isinstance(inner, Exception):
            return _cause(inner)
    return str(error)
