"""Every system of the book behind one seam.

A method is an `nn.Module` built as `Method(config, channels)` with

    presets                    named configurations; the first is the default
    embed(images) -> (B, D)    each row a function of its own image alone
    crop_px                    the image size it wants, or None for whole sites
    config.pixel_um            where an untrained method has it: images are brought to pixels of this size
    trainable                  False where there is nothing to learn; otherwise also:
    batch, optimisers          images a step; name -> optimiser, saved beside the weights, made when first asked for
                               (PyTorch loads its compiler with the first: seconds that embedding does without)
    step(images, n_seen)       one optimisation step on (B, C, H, W) in [-1, 1]; scalars for the log
    sync_gradients(parameters) called between backward and step; several devices average gradients in it

A method that learns from labels says so, and is then built as `Method(config, channels, classes)` and called as
`step(images, n_seen, labels)`, labels (B,) int64 being places in `classes`:

    label                      the wells column that is learnt; sites where it is empty are not shown
    label_values               the values of it that count, where not all do
    predict(images) -> (B,)    classes, where `config.keep` asks which tick did best

It is shown training wells only: those that `splits.by_well` does not put aside for testing.

`train.py` and `embed.py` know nothing else about any of them.
"""

from __future__ import annotations

from torch import nn

from gandl_lib.methods.autoencoders import ConvAE
from gandl_lib.methods.contrad import ContraD
from gandl_lib.methods.count import CellCount
from gandl_lib.methods.cytogan import DCGAN, LSGAN, VAE, WGANGP, RandomDCGAN
from gandl_lib.methods.gandl import GANDL, RandomGANDL
from gandl_lib.methods.imagenet import ImageNetCollapsed, ImageNetConcatenated
from gandl_lib.methods.intensity import Intensity
from gandl_lib.methods.mae import MAE
from gandl_lib.methods.paradigms import BYOL, Autoencoder, Regularised, Untrained, Weak
from gandl_lib.methods.supervised import Supervised
from gandl_lib.methods.transformer import Transformer

METHODS: dict[str, type[nn.Module]] = {
    "gandl": GANDL,
    "gandl-random": RandomGANDL,
    "contrad": ContraD,
    "intensity": Intensity,
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
