"""What a screen.toml says: which column holds what, which words mark the controls, where the images are.

A folder is read by this module if `screen.toml` (or `screen.json`, of the same form) lies beside its `metadata.csv`:

    [columns]                       # our name = "their column"; only plate and well are needed
    plate = "Barcode"
    well = "{Row}{Col}"             # several columns in one, where a value has braces
    site = "Field"                  # one site a well where there is none
    compound = "Substance"
    concentration = "Dose"
    unit = "Unit"                   # a column with a unit a row, instead of [concentration] unit
    control = "Kind"                # whose values [controls] explains; may be the compound's column
    cell_type = "Cells"
    batch = "Run"
    channel = "ChannelName"         # only where a row is an image; [images] channels explains its values

    [concentration]
    unit = "nM"                     # pM, nM, uM, mM or M
    decimal = ","                   # only where it cannot be told

    [controls]                      # role = the values of the control column that mean it; see wells.ROLES
    "C+" = ["healthy"]              # the state to reach
    "C-" = ["sick", "DMSO"]         # the state to leave
    "treated" = ["Mock-1"]          # what looks like a control's name and is none

    [images]
    pixel_um = 0.65                 # of the files; may be left out where OME-TIFFs say it
    bin = 2                         # average 2 x 2 pixels into one (1 where it is left out)
    files = "img/{Barcode}/{Row}{Col}_{Field:02}_{channel}.tif"
    channels = ["DNA", "actin"]     # or { DNA = "w1", actin = "w2" }: what stands for {channel} in the file's name
    follow_links = true             # links may lead out of the folder, for instance to a share (false if left out)

Without `{channel}` in its name a file holds all channels, in the order given: planes of a TIFF or OME-TIFF, or the
colours of a PNG. `files` may also be a table with a name a channel, `{ DNA = "{FileDNA}", actin = "{FileActin}" }`.
One `*` in a name stands for what no table knows (a UUID); exactly one file may fit, thumbnails not counted.
Without [images] the table serves `gandl profiles`, whose embeddings somebody else made.
A channel gets the name of its stain's target; those named as in RxRx19a (DNA, ER, actin, RNA, golgi, in this order) can
be embedded with the shipped network.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandl_lib.datasets._recursion import METADATA
from gandl_lib.datasets.own import units
from gandl_lib.datasets.own.text import clean, read_table
from gandl_lib.wells import ROLES

MAPPINGS = ("screen.toml", "screen.json")
WHICH_IMAGES = '[images] needs files = "…" and channels = ["…", …]; chapter 09 of the book has an example.'
KEYS = {
    "columns": (
        "plate",
        "well",
        "site",
        "compound",
        "concentration",
        "unit",
        "control",
        "cell_type",
        "batch",
        "channel",
    ),
    "concentration": ("unit", "decimal"),
    "controls": ROLES,
    "images": ("files", "channels", "pixel_um", "bin", "follow_links"),
}


@dataclass(frozen=True)
class Description:
    """A screen.toml, checked."""

    path: Path
    columns: Mapping[str, str]
    unit: str | None
    decimal: str | None
    controls: Mapping[str, str]
    """Value of the control column -> role."""
    channels: tuple[str, ...]
    files: tuple[str, ...]
    """A template a channel, or a single one of files that hold all channels; none where there is no [images]."""
    pixel_um: float | None
    bin: int = 1
    tokens: Mapping[str, str] | None = None
    """Value of the channel column -> channel, where a row is an image and not a site."""
    follow_links: bool = False


def find(root: str | Path) -> Path | None:
    """The description that lies in `root`, if any."""
    return next((p for name in MAPPINGS if (p := Path(root) / name).is_file()), None)


def describe(path: Path) -> Description:
    """Read and check a screen.toml or screen.json; ValueError naming what is wrong in it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as {path.suffix[1:].upper()} in UTF-8 ({error}).") from None

    def fail(message: str) -> ValueError:
        return ValueError(f"{path}: {message}")

    if not isinstance(content, dict):
        raise fail(f"must have the sections {', '.join(KEYS)}.")
    for section, values in content.items():
        if section not in KEYS:
            raise fail(f"unknown section [{section}]; known are {', '.join(KEYS)}.")
        if not isinstance(values, dict):
            raise fail(f"[{section}] must be a section of `name = value` lines.")
        for key in values:
            if key not in KEYS[section]:
                raise fail(f"[{section}] has an unknown name {key!r}; known are {', '.join(KEYS[section])}.")
    columns = {**content.get("columns", {})}
    if bad := [key for key, name in columns.items() if not isinstance(name, str) or not name]:
        raise fail(f"[columns] {bad[0]} must be the name of a column in quotes.")
    if missing := [key for key in ("plate", "well") if key not in columns]:
        raise fail(f"[columns] lacks {' and '.join(missing)}: which column of {METADATA} is it?")

    concentration = content.get("concentration", {})
    unit, decimal = concentration.get("unit"), concentration.get("decimal")
    if unit is not None and units.unit_of(unit) is None:
        raise fail(f"[concentration] unit {unit!r} is no molar unit; known are {', '.join(units.UNITS)}.")
    if decimal not in (None, ",", "."):
        raise fail(f'[concentration] decimal must be "," or "."; found {decimal!r}.')
    if "concentration" in columns and unit is None and "unit" not in columns:
        raise fail('concentrations of which unit? Add [concentration] unit = "uM" (or nM, …), or a column `unit`.')

    controls: dict[str, str] = {}
    for role, values in content.get("controls", {}).items():
        for value in [values] if isinstance(values, str) else values if isinstance(values, list) else [values]:
            if not isinstance(value, str):
                raise fail(f'[controls] "{role}" must be a list of texts; found {value!r}.')
            if controls.setdefault(clean(value), role) != role:
                raise fail(f"[controls] {value!r} cannot mean both {controls[clean(value)]} and {role}.")
    if controls and "control" not in columns:
        raise fail("[controls] explains the values of a column; name it in [columns] control.")

    channels, files = _files(content["images"], fail) if "images" in content else ((), ())
    pixel_um = content.get("images", {}).get("pixel_um")
    if pixel_um is not None and (isinstance(pixel_um, bool) or not isinstance(pixel_um, int | float) or pixel_um <= 0):
        raise fail(f"[images] pixel_um must be a length in micrometres above 0; found {pixel_um!r}.")
    n = content.get("images", {}).get("bin", 1)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 16:
        raise fail(f"[images] bin must be a whole number from 1 to 16; found {n!r}.")
    follow = content.get("images", {}).get("follow_links", False)
    if not isinstance(follow, bool):
        raise fail(f"[images] follow_links must be true or false; found {follow!r}.")
    tokens = _tokens(content["images"], channels, files, fail) if "channel" in columns and files else None
    size = pixel_um and float(pixel_um)
    return Description(path, columns, unit, decimal, controls, channels, files, size, n, tokens, follow)


def _tokens(
    images: Mapping[str, Any], channels: tuple[str, ...], files: tuple[str, ...], fail: Callable[[str], ValueError]
) -> dict[str, str]:
    """Value of the channel column -> channel."""
    if len(files) > 1:
        raise fail("[columns] channel is for tables with a row an image, whose files are one text without {channel}.")
    given = images["channels"]
    values = map(str, given.values() if isinstance(given, dict) else given)
    return dict(zip(map(clean, values), channels, strict=True))


def _files(images: Mapping[str, Any], fail: Callable[[str], ValueError]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the channels, and one template a channel or a single one for all."""
    files, channels = images.get("files"), images.get("channels")
    if isinstance(files, dict):
        if channels is not None and list(channels) != list(files):
            raise fail("[images] channels and the names in files differ; leave channels out.")
        channels, templates = list(files), list(files.values())
    else:
        if isinstance(channels, list):
            channels = dict(zip(map(str, channels), map(str, channels), strict=True)) if channels else None
        if not isinstance(files, str) or not isinstance(channels, dict) or not channels:
            raise fail(WHICH_IMAGES)
        tokens = channels.values()
        templates = [files.replace("{channel}", str(t)) for t in tokens] if "{channel}" in files else [files]
    names = list(channels)
    if not all(isinstance(t, str) and t for t in templates):
        raise fail("[images] files must be texts.")
    if len({n.strip() for n in names}) < len(names) or not all(n.strip() for n in names):
        raise fail(f"[images] channels must have different names; found {', '.join(map(repr, names))}.")
    if many := [t for t in templates if t.count("*") > 1]:
        raise fail(f"[images] files may have one * at most; found {many[0]!r}.")
    if len(templates) > 1 and len(set(templates)) < len(templates):
        raise fail(f"[images] two channels have the same files: {templates[0]!r}.")
    return tuple(n.strip() for n in names), tuple(templates)


def draft(path: Path, images: bool = True) -> str:
    """A screen.toml for the table at `path` as far as column names can be guessed; the rest is left to fill in.

    Args:
        images: whether it is to say where images are; without any, it will do for `gandl profiles`.
    """
    text, _ = read_table(path)
    guesses = {
        "plate": r"plate|barcode|assay.?plate",
        "well": r"well|position",
        "site": r"site|field|fov|image.?(number|id)",
        "compound": r"compound|treat|drug|substance|perturb|molecule|pert_iname|broad_sample",
        "concentration": r"conc|dose|mmoles",
        "control": r"control|role|kind|type|group|condition",
        "cell_type": r"cell",
        "batch": r"batch|experiment|run|week|date",
    }
    lines = [f"# What the columns of {path.name} mean. Check every line; `#` starts a remark.", "[columns]"]
    measured = r"(?:Cells|Cytoplasm|Nuclei)_[A-Z]"  # CellProfiler's features
    free, dose = [c for c in text.columns if not re.match(measured, c)], ""
    for key, pattern in guesses.items():
        found = next((c for c in free if re.search(pattern, c, re.IGNORECASE)), None)
        free = [c for c in free if c != found]
        dose = found or "" if key == "concentration" else dose
        lines.append(f"{'' if found else '# '}{key} = {json.dumps(found or '?', ensure_ascii=False)}")
    unit = units.unit_in(dose) or ("?" if "mol" in dose.lower() else "uM")
    lines += ["", "[concentration]", f'unit = "{unit}"', "", "[controls]", '"C+" = []', '"C-" = []', ""]
    lines += ["[images]", "pixel_um = 1.0", *_drafted_files(list(text.columns)), ""] if images else []
    unused = ", ".join(free[:30]) + (f" and {len(free) - 30} more" if len(free) > 30 else "")
    return "\n".join([*lines, f"# Columns not used: {unused or 'none'}", ""])


def _drafted_files(columns: list[str]) -> list[str]:
    """`files` of a CellProfiler LoadData table, whose columns name them; otherwise an example."""
    found = {m[2]: c for c in columns if (m := re.fullmatch(r"(Image_)?FileName_(?:Orig)?(\w+)", c))}
    if not found:
        return ['files = "images/{plate}/{well}_{channel}.tif"', 'channels = ["DNA"]']
    lines = ["[images.files]"]
    for channel, column in found.items():
        folder = column.replace("FileName_", "PathName_")
        template = f"{{{folder}}}/{{{column}}}" if folder in columns else f"{{{column}}}"
        lines.append(f"{json.dumps(channel)} = {json.dumps(template)}")
    return lines
