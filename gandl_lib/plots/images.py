"""Images on a page: channels in grey, composites of coloured lights, scale bars.

**Composites**: channel c, scaled to x_c in [0, 1], shines in the colour k_c, and

    composite = 1 - prod_c (1 - x_c k_c)

so black stays black and nothing clips, however many channels there are. Five lights in three colours cannot be taken
apart again by eye: a composite is for the overview, and each channel stands beside it in grey.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gandl_lib.plots.page import BLACK, CHANNELS, CYCLE, ROLES, STAINS, WIDTH, canvas, drawn, maybe_simulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def unit(images: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Grey values (..., C, H, W) to [0, 1] by the limits (C, 2) that become 0 and 1."""
    low, high = (np.asarray(limits, np.float32)[:, k, None, None] for k in (0, 1))
    return np.clip((np.asarray(images, np.float32) - low) / (high - low), 0, 1)


def shown(images: Any) -> np.ndarray:
    """Network images (..., C, H, W) in [-1, 1], tensor or array, to [0, 1]."""
    return (np.clip(np.asarray(images, np.float32), -1, 1) + 1) / 2


def examples(shards: Any, n: int, **where: str) -> np.ndarray:
    """The first site of each of the first `n` wells whose columns have the given values: (n, C, H, W) in [0, 1].

    Raises:
        ValueError: there is no such well.
    """
    wells = shards.wells[np.logical_and.reduce([shards.wells[c].eq(v) for c, v in where.items()])]
    rows = wells.drop_duplicates("well_id").index[:n]
    if len(rows) == 0:
        raise ValueError(f"no site with {', '.join(f'{c} {v!r}' for c, v in where.items())} in {shards.path}.")
    return unit(shards.read_many(rows), shards.limits)


def composite(images: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Channels as lights laid over each other (see this module's docstring).

    Args:
        images: (..., C, H, W) in [0, 1].
        channels: C names; those not in `CHANNELS` take in turn the colours of `CYCLE` that no named one has.

    Returns:
        (..., H, W, 3) in [0, 1].
    """
    images = np.asarray(images, np.float32)
    if images.shape[-3] != len(channels):
        raise ValueError(f"{images.shape[-3]} channels of images, but {len(channels)} names: {', '.join(channels)}.")
    dark = np.ones((*images.shape[:-3], *images.shape[-2:], 3), np.float32)
    lights = itertools.cycle(k for k in CYCLE if k not in (BLACK, *(CHANNELS.get(channel) for channel in channels)))
    for c, channel in enumerate(channels):
        colour = np.array(matplotlib.colors.to_rgb(CHANNELS.get(channel) or next(lights)), np.float32)
        dark *= 1 - images[..., c, :, :, None] * colour
    return 1 - dark


def scale_bar(axes: Axes, pixel_um: float, width_px: int, um: float | None = None) -> tuple[float, float]:
    """Draw a white bar of `um` micrometres into an image `width_px` wide; returns its length in micrometres and pixels.

    Without `um`, the longest of 1, 2, 5, 10, 20, ... that takes up to a third of the width.
    """
    if um is None:
        room = pixel_um * width_px / 3
        um = max(m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5) if m * 10.0**e <= room)
    length = um / pixel_um
    x, y, thick = 0.04 * width_px, 0.93 * width_px, 0.025 * width_px
    axes.add_patch(Rectangle((x, y), length, thick, facecolor="white", edgecolor="none", label=f"{um:g} µm"))
    size = 6 + 2 * (axes.get_position().width > 0.3)
    axes.text(x, y - 0.02 * width_px, f"{um:g} µm", color="white", fontsize=size, va="bottom", ha="left")
    return um, length


def picture(axes: Axes, image: np.ndarray, pixel_um: float | None = None) -> None:
    """One image without ticks: grey (H, W) or colour (H, W, 3), both in [0, 1]."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if pixel_um is not None:
        scale_bar(axes, pixel_um, image.shape[1])


@drawn
def channel_strip(
    images: np.ndarray,
    channels: Sequence[str],
    pixel_um: float,
    simulated: bool,
    what: str = "one site",
    stains: bool = True,
) -> Figure:
    """One site channel by channel, and all of it as a composite.

    Args:
        images: (C, H, W) in [0, 1], from `unit`.
        what: what it is a picture of, for the words.
        stains: name the stain that RxRx19a uses for a channel of this name; of other plates nobody knows.
    """
    panels = len(channels) + 1
    rows = -(-panels // 3)
    figure, grid = canvas(1.95 * rows, rows, 3)
    for axes in grid.flat[panels:]:
        axes.set_axis_off()
    for axes, channel, image in zip(grid.flat, channels, images, strict=False):
        picture(axes, image, pixel_um)
        stain = f" ({STAINS[channel]})" if stains and channel in STAINS else ""
        axes.set_title(f"{channel}{stain}", fontsize=9)
    picture(grid.flat[panels - 1], composite(images, channels), pixel_um)
    grid.flat[panels - 1].set_title("composite", fontsize=9)
    figure.alt = maybe_simulated(
        simulated, f"{what}, {', '.join(channels)} in grey, one panel each, and a colour composite."
    )
    return figure


@drawn
def montage(
    groups: Mapping[str, np.ndarray], channels: Sequence[str], pixel_um: float, simulated: bool, what: str = "sites"
) -> Figure:
    """Composites, a row a group: label -> (N, C, H, W) in [0, 1]. The first has a scale bar."""
    columns = max(len(images) for images in groups.values())
    figure, grid = canvas(WIDTH / columns * len(groups), len(groups), columns)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for axes_row, (label, images) in zip(grid, groups.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=False):
            picture(axes, composite(image, channels), pixel_um if axes is grid[0, 0] else None)
        for axes in axes_row[len(images) :]:
            axes.set_axis_off()
        axes_row[0].set_ylabel(label, color=ROLES.get(label, BLACK))
    rows = "; ".join(f"{len(images)} of {label}" for label, images in groups.items())
    figure.alt = maybe_simulated(simulated, f"Colour composites of {', '.join(channels)}, {what}, a row each: {rows}.")
    return figure


def centre(images: np.ndarray, px: int) -> np.ndarray:
    """The middle of (..., H, W), at most `px` pixels on a side."""
    y, x = (max(0, (side - px) // 2) for side in images.shape[-2:])
    return images[..., y : y + px, x : x + px]


def tiles(images: np.ndarray, px: int) -> np.ndarray:
    """(..., H, W) as small pictures of `px` pixels a side: the middle, averaged over as many pixels as it takes.

    Sites smaller than that are surrounded by black.
    """
    factor = max(1, min(min(images.shape[-2:]) // px, 3))
    middle = centre(images, px * factor)
    y, x = (side // factor for side in middle.shape[-2:])
    middle = middle[..., : y * factor, : x * factor]
    small = middle.reshape(*middle.shape[:-2], y, factor, x, factor).mean(axis=(-3, -1))
    room = [(0, 0)] * (small.ndim - 2) + [(0, px - y), (0, px - x)]
    return np.pad(small, room)


def album(pictures: Sequence[np.ndarray], name: str, alt: str, title: str) -> tuple[str, list[str]]:
    """Many small pictures as one, folded away: what marks show when they are pointed at (`page.tell`).

    Args:
        pictures: (px, px, 3) in [0, 1], equally large.
        name: the id of the picture.

    Returns:
        HTML; and where each picture lies, "left top side" in pixels.
    """
    px, columns = len(pictures[0]), math.ceil(len(pictures) ** 0.5)
    whole = np.zeros((-(-len(pictures) // columns) * px, columns * px, 3), np.float32)
    places = []
    for k, picture in enumerate(pictures):
        top, left = (k // columns) * px, (k % columns) * px
        whole[top : top + px, left : left + px] = picture
        places.append(f"{left} {top} {px}")
    image = f'<img class="dark-light" id="{name}" alt="{html.escape(alt)}" src="{jpeg(whole)}" style="max-width:100%">'
    return f"<details><summary>{html.escape(title)}</summary>{image}</details>", places


def jpeg(image: np.ndarray) -> str:
    """A colour image (H, W, 3) in [0, 1] as the address of a small JPEG, for where many have to fit on a page."""
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.rint(255 * image))).save(buffer, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
