"""Image files of somebody's own: grey PNG, TIFF, OME-TIFF and BMP, 8 or 16 bit, to arrays in which more is brighter.

Nothing is guessed: what a file holds besides the planes that were asked for (a stack, a film, colours, transparency) is
said, and the file refused. White-is-zero is turned round. A palette that is an even ramp of grey stands for it.
"""

from __future__ import annotations

import logging
import re
import struct
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from gandl_lib.datasets._recursion import DTYPES, PNG_END

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, by us

MAX_PIXELS = 2**26
"""A larger image (8192 x 8192) is no field of a microscope but a mistake, or a bomb."""

FOREIGN = {
    ".czi": "Zeiss (CZI)",
    ".lif": "Leica (LIF)",
    ".nd2": "Nikon (ND2)",
    ".vsi": "Olympus (VSI)",
    ".oib": "Olympus (OIB)",
    ".oif": "Olympus (OIF)",
    ".c01": "CellInsight/Cellomics (C01)",
    ".dib": "CellInsight/Cellomics (DIB)",
    ".flex": "Opera (FLEX)",
    ".xdce": "IN Cell (XDCE)",
    ".stk": "MetaMorph (STK)",
    ".lsm": "Zeiss (LSM)",
    ".jpg": "a camera (JPEG), whose grey values are not as they were measured",
    ".jpeg": "a camera (JPEG), whose grey values are not as they were measured",
}
"""Files that hold microscopes' images and are not read here."""
MICRONS = ("um", "µm", "μm", "microns")
"""How MetaXpress writes micrometres."""
CONVERT = "Bio-Formats' free `bfconvert IN OUT.ome.tif` makes an OME-TIFF of it"


# ---- files ----


def decode(path: Path, n_planes: int, channels: tuple[str, ...]) -> np.ndarray:
    """(n_planes, H, W) of a PNG, TIFF or BMP; ValueError with the rest of a sentence about the file."""
    try:
        with open(path, "rb") as file:
            start = file.read(26)
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        planes = _decode_png(path, start)
    elif start[:2] == b"BM":
        planes = _decode_bmp(path, start)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        planes = _decode_tiff(path, n_planes, channels)
    else:
        raise ValueError(_foreign(path, start))
    if len(planes) != n_planes:
        held = "one channel" if n_planes == 1 else f"{n_planes} channels ({', '.join(channels)})"
        raise ValueError(f"has {len(planes)} plane(s), but {held} should be in it")
    return planes


def binned(images: np.ndarray, n: int) -> np.ndarray:
    """(C, H, W) to (C, H // n, W // n), means of n x n pixels, rounded."""
    if n == 1:
        return images
    C, H, W = images.shape
    blocks = images[:, : H // n * n, : W // n * n].reshape(C, H // n, n, W // n, n)
    return np.rint(blocks.mean(axis=(2, 4))).astype(images.dtype)


def _decode_png(path: Path, start: bytes) -> np.ndarray:
    if len(start) < 26:
        raise ValueError("is truncated")
    width, height = struct.unpack(">II", start[16:24])
    _check_size(width, height)
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(PNG_END)))
        if file.read() != PNG_END:
            raise ValueError("is truncated")
    return _decode_pillow(path, "PNG")


def _decode_bmp(path: Path, start: bytes) -> np.ndarray:
    if len(start) < 26:
        raise ValueError("is truncated")
    width, height = struct.unpack("<ii" if start[14] >= 40 else "<hh", start[18 : 26 if start[14] >= 40 else 22])
    _check_size(abs(width), abs(height))
    return _decode_pillow(path, "BMP")


def _decode_pillow(path: Path, kind: str) -> np.ndarray:
    """(1, H, W) of a grey file, (3, H, W) of a coloured one."""
    try:
        with Image.open(path, formats=[kind]) as image:
            mode, pixels = image.mode, np.asarray(image)
            palette = np.array(image.getpalette("RGB")).reshape(-1, 3) if mode == "P" else None
    except (OSError, SyntaxError, ValueError) as error:
        truncated = "truncated" in str(error) or "buffer" in str(error)
        raise ValueError("is truncated" if truncated else f"cannot be decoded ({error})") from None
    if mode == "RGB":
        return np.moveaxis(pixels, -1, 0)
    if palette is not None:
        return _through_palette(pixels, palette)[None]
    if mode not in DTYPES:
        what = {"1": "black-and-white", "RGBA": "colour with transparency"}.get(mode, mode)
        raise ValueError(f"has {what} pixels, not 8- or 16-bit grey; save it again as grey")
    return pixels.astype(DTYPES[mode], copy=False)[None]


def _through_palette(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W) uint8 grey values of indices into a palette, (n, 3) of 0..255, that is an even ramp of grey, up or down.

    Raises:
        ValueError: it is not; then the numbers in the file are no intensities.
    """
    n = max(int(pixels.max()) + 1, 2)
    if len(palette) < n:
        raise ValueError("has palette pixels and a palette that is too short for them")
    if (palette[:n] != palette[:n, :1]).any():
        raise ValueError("has palette pixels, and the palette is in colours; save it again as 8- or 16-bit grey")
    levels, index = palette[:, 0].astype(int), np.arange(len(palette))
    for even in (index * 255 / max(len(palette) - 1, 1), index * (256 // len(palette)), index):
        for ramp in (even, 255 - even):
            if np.abs(levels[:n] - ramp[:n]).max() <= 1:
                return levels.astype(np.uint8)[pixels]
    raise ValueError("has palette pixels, and the palette is no even ramp of grey; save it again as 8- or 16-bit grey")


def _foreign(path: Path, start: bytes) -> str:
    """What a file is that cannot be read, and which free tool makes a TIFF of it, as the rest of a sentence."""
    if not start:
        return "is empty"
    begun = f"is no PNG, TIFF or BMP (it begins with {start[:8]!r})"
    made_by = FOREIGN.get(path.suffix.lower())
    if start[:10] == b"ZISRAWFILE":
        made_by = FOREIGN[".czi"]
    return (
        f"{begun}; it is of {made_by}: {CONVERT}"
        if made_by
        else f"is neither PNG nor TIFF nor BMP (it begins with {start[:8]!r})"
    )


def _decode_tiff(path: Path, n_planes: int, channels: tuple[str, ...]) -> np.ndarray:
    size = path.stat().st_size
    try:
        # Not the other files that an OME-TIFF may name: those could lie anywhere.
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            pages = list(tiff.pages)
            if not pages:
                raise _Unfit("holds no image")
            page = pages[0]
            if page.dtype is None or page.dtype.name not in ("uint8", "uint16"):
                raise _Unfit(
                    f"has pixels of {page.dtype or 'an unknown kind'}, not whole numbers of 8 or 16 bit without sign; "
                    "save it again as 16-bit"
                )
            if any(sample in (1, 2) for sample in page.extrasamples or ()):
                raise _Unfit("has a transparency beside its grey values; save it again without")
            _check_size(page.imagewidth, page.imagelength)
            if len(pages) * page.samplesperpixel > max(64, n_planes):
                raise _Unfit(f"has {len(pages)} planes; a stack or a film? {n_planes} should be in it")
            for other in pages:
                if other.shape != page.shape or other.dtype != page.dtype:
                    raise _Unfit("has planes of different sizes or types")
                ends = [o + n for o, n in zip(other.dataoffsets, other.databytecounts, strict=True)]
                if not ends or max(ends) > size:
                    raise _Unfit("is truncated")
            if tiff.is_ome:
                _check_ome(tiff.ome_metadata or "", path.name, n_planes, channels)
            planes = _planes(path, tiff, pages)
    except _Unfit as unfit:
        raise ValueError(str(unfit)) from None
    except Exception as error:  # tifffile raises two dozen kinds over damaged files
        raise ValueError(f"cannot be decoded ({error})") from None
    return planes.astype(planes.dtype.newbyteorder("="), copy=False)


class _Unfit(ValueError):
    """What a file is or has, as the rest of a sentence."""


def _planes(path: Path, tiff: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> np.ndarray:
    """(planes, H, W), pages in order, samples of a page beside each other."""
    try:
        arrays = [page.asarray() for page in pages]
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # LZW and the like, where imagecodecs is not installed: Pillow has them too, for grey pages.
        with Image.open(path, formats=["TIFF"]) as image:
            arrays = []
            for k in range(len(pages)):
                image.seek(k)
                arrays.append(np.asarray(image))
                turned = pages[k].photometric == tifffile.PHOTOMETRIC.MINISWHITE  # Pillow turns some of these round
                if turned or arrays[-1].dtype != pages[k].dtype or arrays[-1].shape != pages[k].shape:
                    raise error from None
    planes = []
    for page, array in zip(pages, arrays, strict=True):
        if page.axes not in ("YX", "SYX", "YXS"):
            raise _Unfit(f"has axes {page.axes}; planes of height and width are expected")
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = 2**page.bitspersample - 1 - array.astype(np.uint32)  # 0 is white there
            array = array.astype(page.dtype)
        elif page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            array = _through_palette(array, np.asarray(page.colormap).T // 257)
        planes += [array] if array.ndim == 2 else list(array if page.axes == "SYX" else np.moveaxis(array, -1, 0))
    order = tiff.series[0] if tiff.is_ome and len(tiff.series) == 1 else None
    if order is not None and order.axes == "CYX" and order.shape[0] == len(planes) and len(pages) == len(planes):
        index = [None if p is None else p.index for p in order.pages]  # which page is which channel, says the OME-XML
        if sorted(i for i in index if i is not None) == list(range(len(planes))):
            planes = [planes[i] for i in index]
    return np.stack(planes)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or width < 1 or height < 1:
        raise _Unfit(f"is said to be {height} x {width} pixels; no more than {MAX_PIXELS:,} are read")


def _check_ome(xml: str, file: str, n_planes: int, channels: tuple[str, ...]) -> None:
    """Stacks and films in this very file, and channels named otherwise than screen.toml has them."""
    sizes = {axis: int(n) for axis, n in re.findall(r'Size([ZT])="(\d{1,9})"', xml)}
    if any(n > 1 for n in sizes.values()) and not _one_plane_of_a_set(xml, file):
        deep = [f"{n} {'layers' if axis == 'Z' else 'times'}" for axis, n in sizes.items() if n > 1]
        raise _Unfit(f"has {' and '.join(deep)}; project the stack or choose one plane first")
    named = re.findall(r'<(?:\w+:)?Channel\b[^>]*?\bName="([^"]*)"', xml)
    if n_planes > 1 and sorted(named) == sorted(channels) and tuple(named) != channels:
        raise _Unfit(f"names its channels {', '.join(named)}; screen.toml has them in another order")


def _one_plane_of_a_set(xml: str, file: str) -> bool:
    """Whether an OME-TIFF of many files says that this one holds a single layer and time."""
    blocks = re.findall(r"<(?:\w+:)?TiffData\b([^>]*)>\s*<(?:\w+:)?UUID\b[^>]*\bFileName=\"([^\"]*)\"", xml)
    mine = [given for given, name in blocks if name.replace("\\", "/").rpartition("/")[2] == file]
    if not mine or len(mine) == len(blocks):
        return False
    first = [tuple(re.findall(rf'\bFirst{axis}="(\d+)"', given) for axis in "ZT") for given in mine]
    several = any(int(n) > 1 for given in mine for n in re.findall(r'PlaneCount="(\d+)"', given))
    return len(set(map(str, first))) == 1 and not several


def pixel_um(path: Path) -> float:
    """Side of a pixel in micrometres, of an OME-TIFF (PhysicalSizeX) or a MetaXpress TIFF whose calibration is on.

    Raises:
        ValueError: it is neither, or does not say.
    """
    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            xml = tiff.ome_metadata or ""
            described = "" if xml else str(tiff.pages[0].tags.valueof("ImageDescription") or "")
    except Exception as error:
        raise ValueError(str(error)) from None
    if described.startswith("<MetaData>"):
        said = dict(re.findall(r'<prop id="spatial-calibration-(\w+)" type="\w+" value="([^"]*)"', described))
        if said.get("state") == "on" and said.get("units") in MICRONS and said.get("x") == said.get("y"):
            xml = f'PhysicalSizeX="{said.get("x")}"'
    size = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', xml)
    unit = re.search(r'PhysicalSizeXUnit="([^"]*)"', xml)
    scale = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}.get(unit[1] if unit else "µm")
    if not size or scale is None or not 0 < float(size[1]) * scale < 1e3:
        raise ValueError("says no size of a pixel")
    return float(size[1]) * scale
