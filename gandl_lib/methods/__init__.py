"""Every system of the book behind one seam.

`base.Method` says what training and embedding may ask of a method; they know nothing else about any of them. One that
learns from labels is shown training wells only: those that `splits.by_well` does not put aside for testing.
"""

from __future__ import annotations

from gandl_lib.methods.autoencoders import ConvAE
from gandl_lib.methods.base import Method
from gandl_lib.methods.contrad import ContraD
from gandl_lib.methods.count import CellCount
from gandl_lib.methods.cytogan import DCGAN, LSGAN, VAE, WGANGP, RandomDCGAN
from gandl_lib.methods.gandl import GANDL, RandomGANDL
from gandl_lib.methods.imagenet import ImageNetCollapsed, ImageNetConcatenated
from gandl_lib.methods.intensity import Intensity
from gandl_lib.methods.mae import MAE
from gandl_lib.methods.paradigms import BYOL, Autoencoder, Regularised, Untrained, Weak
from gandl_lib.methods.supervised import Supervised
from gandl_lib.methods.texture import Texture
from gandl_lib.methods.transformer import Transformer

METHODS: dict[str, type[Method]] = {
    "gandl": GANDL,
    "gandl-random": RandomGANDL,
    "contrad": ContraD,
    "intensity": Intensity,
    "texture": Texture,
    "cell-count": CellCount,
    "supervised": Supervised,
    "imagenet-collapsed": ImageNetCollapsed,
    "imagenet-concatenated": ImageNetConcatenated,
    "convae": ConvAE,
    "mae": MAE,
    "transformer": Transformer,
    "weak": Weak,
    "autoencoder": Autoencoder,
    "regularised": Regularised,
    "byol": BYOL,
    "paradigm-random": Untrained,
    "dcgan": DCGAN,
    "lsgan": LSGAN,
    "wgan-gp": WGANGP,
    "vae": VAE,
    "dcgan-random": RandomDCGAN,
}


def lookup(name: str, preset: str | None = None):
    """The class called `name` and its configuration called `preset` (default: its first).

    Raises:
        ValueError: listing the known names, where either is unknown.
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; the methods are {', '.join(METHODS)}.")
    presets = METHODS[name].presets
    preset = next(iter(presets)) if preset is None else preset
    if preset not in presets:
        raise ValueError(f"unknown preset {preset!r} of {name}; its presets are {', '.join(presets)}.")
    return METHODS[name], presets[preset]
