"""Encoders that others have trained, from a folder on this machine: what a laboratory would try first in 2026.

The folder is what `save_pretrained` of the `transformers` package writes: config.json and safetensors weights. There
are two kinds, and either takes any number of channels:

* Models of cell images with a `predict` of their own that takes all channels, grey values 0 to 255, such as OpenPhenom
  (a channel-agnostic masked autoencoder of Kraus et al. 2024). Their code lies in the folder and is run only where
  GANDL_TRUST_ENCODER=1 says that it may be.
* Vision transformers of photographs (DINOv2, ViT, ViT-MAE, ...): each channel alone as a grey photograph, its patch
  tokens averaged; C x width features, as `imagenet-concatenated` has them.

Images are brought to the side that the model was trained on. Nothing is fetched and nothing unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.methods.base import Method


@dataclass(frozen=True)
class TransformerConfig:
    folder: str = ""
    """With config.json and *.safetensors; $GANDL_ENCODER where empty."""
    side_px: int = 256
    """For models that do not name the side of their images."""


PRESETS = {"local": TransformerConfig()}


class Transformer(Method):
    """A frozen encoder: (B, C, H, W) -> (B, D)."""

    presets = PRESETS
    trainable = False

    def __init__(self, config: TransformerConfig, channels: int):
        super().__init__(config, channels)
        folder = find(config.folder)
        self.network = _load(folder).eval().requires_grad_(False)
        side = getattr(self.network.config, "image_size", config.side_px)
        self.side = side if isinstance(side, int) else side[0]
        self.whole = callable(getattr(self.network, "predict", None))
        if hasattr(self.network, "return_channelwise_embeddings"):
            self.network.return_channelwise_embeddings = False
        if getattr(self.network.config, "mask_ratio", 0) and not self.whole:
            self.network.config.mask_ratio = 0.0  # a ViT-MAE would hide patches when it embeds, too
        mean, sd = _normalisation(folder)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(sd)[:, None, None], persistent=False)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, D) float32; D is C x width where channels are shown one by one."""
        grey = (images + 1) / 2
        if grey.shape[-2:] != (self.side, self.side):
            grey = F.interpolate(grey, (self.side, self.side), mode="bilinear", antialias=True)
        if self.whole:
            return self.network.predict(255 * grey).flatten(1).float()
        photographs = grey.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        tokens = self.network(pixel_values=(photographs - self.mean) / self.sd).last_hidden_state
        n_patches = (self.side // getattr(self.network.config, "patch_size", 1)) ** 2
        return tokens[:, -n_patches:].mean(1).unflatten(0, (len(images), -1)).flatten(1).float()


def find(folder: str = "") -> Path:
    """The folder of the encoder: the one named, or $GANDL_ENCODER.

    Raises:
        ValueError: there is none, or it lacks config.json or safetensors.
    """
    named = folder or os.environ.get("GANDL_ENCODER", "")
    if not named:
        raise ValueError("no encoder: set GANDL_ENCODER to a folder with config.json and safetensors weights.")
    for wanted in ("config.json", "*.safetensors"):
        if not any(Path(named).glob(wanted)):
            raise ValueError(f"{named}: no {wanted} there; an encoder is a folder that `save_pretrained` wrote.")
    return Path(named)


def _load(folder: Path) -> nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"encoders need transformers ({error}); pip install 'gandl[encoders]'.") from None
    trusted = os.environ.get("GANDL_TRUST_ENCODER") == "1"
    if "auto_map" in json.loads((folder / "config.json").read_text()) and not trusted:
        raise ValueError(
            f"{folder}: this encoder brings code of its own. Read it, and set GANDL_TRUST_ENCODER=1 to let it run."
        )
    try:
        return transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=trusted
        )
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder}: transformers {transformers.__version__} cannot open it ({error}).") from None


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """What the model's images had taken away and were divided by: three numbers each, of RGB in [0, 1]."""
    path = folder / "preprocessor_config.json"
    said = json.loads(path.read_text()) if path.is_file() else {}
    mean, sd = said.get("image_mean", [0.5] * 3), said.get("image_std", [0.5] * 3)
    if len(mean) != 3 or len(sd) != 3:
        raise ValueError(f"{path}: image_mean and image_std must have three numbers; found {mean} and {sd}.")
    return mean, sd
