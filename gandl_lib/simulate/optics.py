"""What a microscope makes of light: blur, haze, uneven lighting, background and noise, other ones on every plate."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

PSF_UM = 0.75
"""Standard deviation of the blur in focus, which the structures of cells are drawn to survive."""


class Optics(Protocol):
    """What a screen says of its microscope; spreads are of logarithms."""

    image_px: int
    vignette: float
    plate_gain_sd: float
    background_sd: float
    blur_sd: float


def of_plate(screen: Optics, rng: np.random.Generator, stains: int, background: float) -> dict[str, np.ndarray]:
    """Gain, background and blur of each stain (K,) on one plate, and how evenly it is lit, (K, H, W)."""
    centre = 0.25 * rng.standard_normal((stains, 2, 1, 1))
    y, x = np.mgrid[-1 : 1 : screen.image_px * 1j, -1 : 1 : screen.image_px * 1j]
    off_axis2 = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 2
    strength = screen.vignette * rng.uniform(0.5, 1.5, (stains, 1, 1))
    return {
        "gain": np.exp(screen.plate_gain_sd * rng.standard_normal(stains)),
        "background": background * np.exp(screen.background_sd * rng.standard_normal(stains)),
        "blur": np.exp(screen.blur_sd * rng.standard_normal(stains)),
        "vignette": (1 - strength * off_axis2).clip(0.1).astype(np.float32),
    }


def seen(
    light: np.ndarray,
    rng: np.random.Generator,
    *,
    pixel_um: float,
    blur: float,
    haze: float,
    gain: float,
    vignette: np.ndarray,
    background: float,
    top: int,
) -> np.ndarray:
    """The grey values, 0 to `top` as floats, of one stain's light (H, W).

    Args:
        blur: of this site and stain, in units of the point spread function in focus.
        haze: share of the light that comes from out of focus.
    """
    sharp = gaussian_filter(light, PSF_UM / pixel_um * blur, mode="wrap", truncate=3)
    blurred = gaussian_filter(sharp, 8 / pixel_um, mode="wrap", truncate=2)
    image = ((1 - haze) * sharp + haze * blurred) * gain * vignette + background
    noise = rng.standard_normal(image.shape, np.float32) * np.sqrt(0.0015**2 + 0.0006 * image)
    return np.clip(np.rint(top * (image + noise)), 0, top)
