"""A table as text, whatever program has saved it.

UTF-8 with or without byte order mark, UTF-16 with one, or Windows-1252; separated by comma, semicolon, tab or bar;
behind lines that are no header: `sep=;`, a title, a remark.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd

SEPARATORS = "\t;,|"
TITLE_LINES = 20
"""A header is looked for in so many lines."""


def read_table(path: Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The table as stripped text, index = line of the file, and notes (what, where) on how it had to be read.

    Raises:
        ValueError: there is no such file, or it is no table; says what it is instead where that can be seen.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    raw, notes = path.read_bytes(), []
    if raw[:4] == b"PK\3\4":
        raise ValueError(
            f"{path}: has zero bytes, so it is no text but a workbook (.xlsx) under another name; save it as CSV in "
            "UTF-8."
        )
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(f"{path}: begins like UTF-16 but is not ({error}); save it as CSV in UTF-8.") from None
        text = raw.decode("cp1252", errors="replace")
        notes.append(("the table is not UTF-8; it was read as Windows-1252", path.name))
    if "\0" in text:
        raise ValueError(f"{path}: has zero bytes, so it is no text; save it as CSV in UTF-8.")
    text, before, separator = _without_title(text)
    if before:
        notes.append((f"the first {before} line(s) of the table are no header and were passed over", path.name))
    first = text.splitlines()[:1] or [""]
    separator = separator or max(SEPARATORS, key=_bare(first[0]).count)
    header = next(csv.reader(first, delimiter=separator), [])
    repeated = [name for name, n in Counter(h.strip() for h in header).items() if n > 1 and name]
    if repeated:
        raise ValueError(f"{path}: the column {repeated[0]!r} occurs twice; rename one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False, na_filter=False
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table separated by {separator!r} ({error}).") from None
    table = table.fillna("").rename(columns=lambda c: str(c).strip()).map(clean)
    if table.empty:
        raise ValueError(f"{path}: a header and no rows; there is no site to read.")
    return table.set_axis(range(2 + before, len(table) + 2 + before), axis=0), notes


def clean(text: str) -> str:
    """Without space around it, and letters with accents in one form."""
    return unicodedata.normalize("NFC", text.strip())


def _without_title(text: str) -> tuple[str, int, str]:
    """The text from its header on, how many lines stood before it, and the separator if `sep=` named it."""
    lines = text.splitlines(keepends=True)
    separator, k = "", 0
    while k < min(len(lines), TITLE_LINES):
        line = lines[k].strip()
        if found := re.fullmatch(r"\"?sep=([;,|\t])\"?", lines[k].strip("\r\n ")):
            separator = found[1]
        elif any(s in _bare(line) for s in SEPARATORS):
            break  # plate and well are two columns at least, so a header has a separator
        k += 1
    else:
        k = 0  # nothing looks like a header: let what reads the table say so
    titled = any(line.strip() for line in lines[:k])
    return "".join(lines[k:]), k if titled else 0, separator


def _bare(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)
