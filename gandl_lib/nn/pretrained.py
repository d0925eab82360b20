"""Networks that have seen ImageNet, and where their weights are found.

In order: a file that is named; `<network>-imagenet.safetensors` in the folder $GANDL_WEIGHTS, where
that is set; the file torchvision publishes, fetched once and kept in torch's own cache, its sha256 compared with the
digits in its name. There is no fourth way: a network with random weights would be another column of the table.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import requests
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gandl_lib import files
from gandl_lib.nn.densenet import DenseNet, from_torchvision
from gandl_lib.nn.squeezenet import SqueezeNet

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in [0, 1]: what the networks were shown had these taken away."""

PUBLISHED = {
    "squeezenet1_1": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    "densenet121": "https://download.pytorch.org/models/densenet121-a639ec97.pth",
    "densenet161": "https://download.pytorch.org/models/densenet161-8d451a50.pth",
}
TIMEOUT_S = 10


def find(name: str, path: str | None = None) -> Path:
    """The file with the weights of network `name`, fetched if it is nowhere near.

    Args:
        name: one of `PUBLISHED`.
        path: a safetensors file with torchvision's parameter names, instead of looking for one.

    Raises:
        ValueError: there is none; says where it was looked for.
    """
    if name not in PUBLISHED:
        raise ValueError(f"no ImageNet network is called {name!r}; known are {', '.join(PUBLISHED)}.")
    if path is not None:
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file of {name} weights.")
        return Path(path)
    near = (
        Path(os.environ["GANDL_WEIGHTS"], f"{name}-imagenet.safetensors") if os.environ.get("GANDL_WEIGHTS") else None
    )
    if near is not None and near.is_file():
        return near
    cached = Path(torch.hub.get_dir()) / "checkpoints" / PUBLISHED[name].rpartition("/")[2]
    if not cached.is_file():
        try:
            _fetch(PUBLISHED[name], cached)
        except OSError as error:  # requests' own errors are such
            looked = f"not at {near} (GANDL_WEIGHTS)" if near else "GANDL_WEIGHTS names no folder"
            raise ValueError(
                f"no ImageNet weights of {name}: {looked}, not at {cached}, "
                f"and {PUBLISHED[name]} could not be fetched ({type(error).__name__})."
            ) from None
    return cached


def network(name: str, path: str | None = None) -> nn.Module:
    """Network `name` with ImageNet's weights, frozen: RGB (B, 3, H, W) in [-1, 1] -> (B, `width`).

    Raises:
        ValueError: as `find`; or the file holds another network.
    """
    file = find(name, path)
    if file.suffix == ".safetensors":
        tensors = load_file(file)
    else:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    tensors = {key: t.float() for key, t in from_torchvision(tensors).items()}
    body = SqueezeNet() if name.startswith("squeezenet") else DenseNet(name)
    missing, unexpected = body.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{file}: not the weights of {name} (missing {missing[:2]}, unknown {unexpected[:2]}).")
    return Pretrained(body)


class Pretrained(nn.Module):
    """A frozen network behind ImageNet's normalisation; stays in evaluation mode whatever it is part of."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body, self.width = body.eval().requires_grad_(False).to(memory_format=torch.channels_last), body.width
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("sd", torch.tensor(SD)[:, None, None])

    def train(self, mode: bool = True) -> Pretrained:
        return super().train(False)

    def normalised(self, rgb: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [-1, 1], the range of all images in this library, as ImageNet's networks want it."""
        return (((rgb + 1) / 2 - self.mean) / self.sd).contiguous(memory_format=torch.channels_last)

    def maps(self, rgb: Tensor) -> list[Tensor]:
        """Feature maps at several depths, for a perceptual loss."""
        return self.body.maps(self.normalised(rgb))

    def forward(self, rgb: Tensor) -> Tensor:
        return self.body(self.normalised(rgb))


def _fetch(url: str, out: Path) -> None:
    """Download `url`, whose name ends in the first digits of its sha256, whole or not at all."""
    reply = requests.get(url, timeout=TIMEOUT_S)
    reply.raise_for_status()
    wanted = re.search(r"-([0-9a-f]{8,})\.", url)[1]
    if not hashlib.sha256(reply.content).hexdigest().startswith(wanted):
        raise OSError(f"{url}: its sha256 does not begin with {wanted}")
    files.write(out, reply.content)
