"""Sites and samples as chapters show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from gandl_lib.plots.images import composite, examples, picture
from gandl_lib.plots.page import canvas, drawn, empty, maybe_simulated

if TYPE_CHECKING:
    pass


@drawn
def site_grid(
    groups: Mapping[str, np.ndarray],
    channels: Sequence[str],
    pixel_um: float | Mapping[str, float],
    simulated: bool,
) -> Figure:
    """Sites under each other, a row a site: every channel in grey, then the composite.

    Args:
        groups: label -> (N, C, H, W) in [0, 1]; the label stands at its N rows.
        pixel_um: of all groups, or of each.
    """
    rows = sum(len(images) for images in groups.values())
    columns = len(channels) + 1
    figure, grid = canvas(0.96 * rows + 0.3, rows, columns)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    row = 0
    for label, images in groups.items():
        um = pixel_um[label] if isinstance(pixel_um, Mapping) else pixel_um
        for k, image in enumerate(images):
            for axes, panel in zip(grid[row], [*image, composite(image, channels)], strict=True):
                picture(axes, panel, um if axes is grid[row, -1] and k == 0 else None)
            if k == 0:
                grid[row, 0].set_ylabel(label, fontsize=9, loc="top")
            row += 1
    for axes, title in zip(grid[0], [*channels, "composite"], strict=True):
        axes.set_title(title, fontsize=9)
    shown = ", ".join(f"{len(images)} of {label}" for label, images in groups.items())
    figure.alt = maybe_simulated(
        simulated, f"Rows of sites ({shown}); columns {', '.join(channels)} in grey and the composite."
    )
    return figure


@drawn
def beside_real(shards: Any, real: Any | None) -> Figure:
    """One untreated site of a simulated screen over one of a real one, cut to the same width in micrometres.

    Args:
        shards, real: `Shards`; without `real` the figure says that there are no real images here.
    """
    if real is None:
        return empty("No real images here: set GANDL_DATA to a folder with RxRx1's.")
    cell_type = real.wells["cell_type"].iloc[0]
    ours, theirs = examples(shards, 1, role="C+"), examples(real, 1, cell_type=cell_type)
    side = min(round(ours.shape[-1] * shards.pixel_um / real.pixel_um), *theirs.shape[-2:])
    groups = {"simulated": ours, f"real {cell_type}": theirs[..., :side, :side]}
    um = dict(zip(groups, (shards.pixel_um, real.pixel_um), strict=True))
    figure = site_grid(groups, shards.channels, um, simulated=False)
    figure.alt = f"Above, one simulated site; below, one of real {cell_type} cells (RxRx1). {figure.alt}"
    return figure


@drawn
def cell_types(shards: Any | None, n: int = 1) -> Figure:
    """`n` sites of each cell type of a `Shards`; None draws a note that there is none."""
    if shards is None:
        return empty()
    kinds = sorted(shards.wells["cell_type"].unique())
    groups = {kind: examples(shards, n, cell_type=kind) for kind in kinds}
    return site_grid(groups, shards.channels, shards.pixel_um, shards.simulated)


def samples(folder: str | Path, channels: Sequence[str], stages: int = 4, columns: int = 5) -> dict[str, np.ndarray]:
    """What the generator made of the same latents at some stages of training, for `montage`.

    Args:
        folder: `samples/` of a run: PNGs named after the images seen, rows are channels and columns are samples.

    Returns:
        "<images seen> images" -> (N, C, H, W) in [0, 1], the first stage and the last among them.
    """
    from PIL import Image

    files = sorted(Path(folder).glob("*.png"))
    chosen = sorted({round(k) for k in np.linspace(0, len(files) - 1, min(stages, len(files)))})
    found = {}
    for file in (files[k] for k in chosen):
        grid = np.asarray(Image.open(file), np.float32) / 255
        size = grid.shape[0] // len(channels)
        images = grid.reshape(len(channels), size, -1, size).transpose(2, 0, 1, 3)  # [CHNW] -> [NCHW]
        found[f"{int(file.stem):,} images"] = images[:columns]
    return found
