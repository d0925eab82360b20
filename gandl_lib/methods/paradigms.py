"""Four ways to train one small encoder, in sixteen setups.

* **weak**: drug against control, by the well's label. Cross-entropy of a head of two layers.
* **autoencoder**: draw the image again. Binary cross-entropy of pixels scaled to [0, 1].
* **regularised**: both, in turns: one step draws, the next one names.
* **byol** (Grill et al. 2020): predict what a slow copy of oneself (moving average, 0.8) makes of another view,

      loss = 2 - 2 cos(q(z), z')        q the predictor, z' the copy's projection; both ways round

Each with or without **augmentation** (`augment`: resized crop, horizontal flip, Gaussian blur) and **multi-crop**
(`crops`: the image, two windows of half its side and two of a quarter, all at the image's size). The windows of an
image are images of their own; only byol relates them, for its slow copy sees whole images alone, as DINO's does.

`published` setups have two flaws that are known in the authors' public code: a softmax in front of the cross-entropy,
which takes one of its own (weak), and the classifier's loss added as a number, from which nothing is learnt
(regularised, which is then an autoencoder that computes more).

Reference: Dmitrenko et al. 2022 (arXiv 2203.04107). Not published, so chosen here: strengths of the augmentation, how
byol pairs windows. Labels are those of training wells.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.methods.base import Method
from gandl_lib.nn.paradigms import Decoder, Encoder, classifier, projector
from gandl_lib.views import random_blur, random_flips, resized_crops

WINDOWS = (0.5, 0.5, 0.25, 0.25)
"""Sides of multi-crop's windows, as fractions of the image's."""
AUGMENT_SHARE = (0.6, 1.0)


@dataclass(frozen=True)
class ParadigmConfig:
    widths: tuple[int, int, int, int] = (64, 32, 16, 8)
    resolution: int = 64
    batch: int = 256
    learning_rate: float = 1e-4
    augment: bool = False
    crops: bool = False
    hidden: int = 256
    """Of the classifier's first layer."""
    projector_hidden: int = 2048
    projection: int = 64
    ema: float = 0.8
    published: bool = False
    """With the flaws of the authors' public code."""
    keep: str = "last"

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON brings a list back


PAPER = ParadigmConfig()
SIZES = {
    "quick": replace(PAPER, widths=(16, 16, 16, 8), batch=32, learning_rate=1e-3, hidden=64, projector_hidden=256),
    "paper": PAPER,
    "tiny": replace(
        PAPER,
        widths=(4, 4, 4, 2),
        resolution=16,
        batch=8,
        learning_rate=1e-3,
        hidden=8,
        projector_hidden=16,
        projection=8,
    ),
}
"""paper: as published. quick: a quarter of the first maps, small batches, a faster rate: what a core trains in seconds,
with the same 2048 features. tiny: for tests."""

SETUPS = {
    "plain": {},
    "augment": {"augment": True},
    "crops": {"crops": True},
    "augment-crops": {"augment": True, "crops": True},
    "published": {"published": True},
}
PRESETS = {f"{size}-{name}": replace(c, **change) for size, c in SIZES.items() for name, change in SETUPS.items()}


class Paradigm(Method):
    """The encoder behind the method seam; subclasses say what it learns from."""

    presets = PRESETS
    training_only = ("decoder.", "classifier.", "projector.", "predictor.", "target.")

    def __init__(self, config: ParadigmConfig, channels: int, classes: Sequence[str] = ()):
        super().__init__(config, channels)
        self.batch, self.crop_px = config.batch, config.resolution
        self.encoder = Encoder(channels, config.widths, config.resolution)
        self.heads(channels, max(len(classes), 2))
        self.to(memory_format=torch.channels_last)
        self.learnt = [p for p in self.parameters() if p.requires_grad]

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": torch.optim.Adam(self.learnt, self.config.learning_rate)}

    def heads(self, channels: int, classes: int) -> None:
        """Build what stands on the encoder during training."""

    def views(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (V B, C, R, R): all first views, then all second ones; V is 1, or 5 with multi-crop."""
        windows = [resized_crops(images, (side, side)) for side in WINDOWS] if self.config.crops else []
        views = torch.cat([images, *windows])
        if self.config.augment:
            views = random_blur(random_flips(resized_crops(views, AUGMENT_SHARE)))
        return views.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, D) float32."""
        return self.encoder(images.contiguous(memory_format=torch.channels_last)).float()


class Untrained(Paradigm):
    """The same encoder before its first step."""

    trainable = False


class Weak(Paradigm):
    label, label_values = "role", ("treated", "C-")

    def heads(self, channels: int, classes: int) -> None:
        self.classifier = classifier(self.encoder.width, self.config.hidden, classes)

    def naming_loss(self, views: Tensor, labels: Tensor, softmax: bool = False) -> Tensor:
        scores = self.classifier(self.encoder(views))
        scores = scores.softmax(dim=1) if softmax else scores
        return F.cross_entropy(scores, labels.repeat(len(views) // len(labels)))

    def step(self, images: Tensor, n_seen: int, labels: Tensor) -> dict[str, Tensor]:
        """One step on images (B, C, R, R) and classes (B,) int64."""
        loss = self.naming_loss(self.views(images), labels, softmax=self.config.published)
        self.update("adam", loss)
        return {"naming": loss.detach()}


class Autoencoder(Paradigm):
    def heads(self, channels: int, classes: int) -> None:
        self.decoder = Decoder(channels, self.config.widths, self.config.resolution)

    def drawing_loss(self, views: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.decoder(self.encoder(views)), (views + 1) / 2)

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        loss = self.drawing_loss(self.views(images))
        self.update("adam", loss)
        return {"drawing": loss.detach()}


class Regularised(Weak, Autoencoder):
    """Even steps draw, odd steps name; as published, every step draws and adds a number that has no gradient."""

    def heads(self, channels: int, classes: int) -> None:
        Weak.heads(self, channels, classes)
        Autoencoder.heads(self, channels, classes)

    def step(self, images: Tensor, n_seen: int, labels: Tensor) -> dict[str, Tensor]:
        views = self.views(images)
        if self.config.published:
            drawing, naming = self.drawing_loss(views), self.naming_loss(views, labels).detach()
            self.update("adam", drawing + naming)
            return {"drawing": drawing.detach(), "naming": naming}
        if (n_seen // self.batch) % 2 == 0:
            name, loss = "drawing", self.drawing_loss(views)
        else:
            name, loss = "naming", self.naming_loss(views, labels)
        self.update("adam", loss)
        return {name: loss.detach()}


class BYOL(Paradigm):
    def heads(self, channels: int, classes: int) -> None:
        c = self.config
        self.projector = projector(self.encoder.width, c.projector_hidden, c.projection)
        self.predictor = projector(c.projection, c.projector_hidden, c.projection)
        slow = nn.ModuleDict({"encoder": self.encoder, "projector": self.projector})
        self.target = copy.deepcopy(slow).requires_grad_(False)

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        first, second = self.views(images), self.views(images)
        losses = [self.prediction_loss(a, b[: len(images)]) for a, b in ((first, second), (second, first))]
        loss = torch.stack(losses).mean()
        self.update("adam", loss)
        self._follow()
        return {"prediction": loss.detach()}

    def prediction_loss(self, views: Tensor, whole: Tensor) -> Tensor:
        """2 - 2 cos between what is predicted from `views` (V B, ...) and the slow copy's `whole` (B, ...)."""
        predicted = self.predictor(self.projector(self.encoder(views)))
        with torch.no_grad():
            wanted = self.target["projector"](self.target["encoder"](whole))
        return 2 - 2 * F.cosine_similarity(predicted, wanted.repeat(len(views) // len(whole), 1), dim=1).mean()

    @torch.no_grad()
    def _follow(self) -> None:
        """The slow copy moves a fifth of the way. Its batch statistics are its own."""
        quick = [*self.encoder.parameters(), *self.projector.parameters()]
        torch._foreach_lerp_(list(self.target.parameters()), quick, 1 - self.config.ema)
