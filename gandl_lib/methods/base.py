"""The seam that every system of the book stands behind: what training and embedding may ask of a method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Method(nn.Module):
    """Built as `Method(config, channels)`; one that learns from labels as `Method(config, channels, classes)`.

    A method with nothing to train has `embed` alone and says `trainable = False`.
    """

    presets: ClassVar[dict[str, Any]]
    """Named configurations; the first is the default."""
    trainable: ClassVar[bool] = True
    label: ClassVar[str | None] = None
    """The wells column that is learnt from, by those that learn from labels; sites where it is empty are not shown."""
    label_values: ClassVar[tuple[str, ...] | None] = None
    """The values of it that count, where not all do."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the state that an embedding never needs."""
    taps: ClassVar[tuple[str, ...]] = ()
    """Where `config.tap` may read the network, if it can be read in several places; the first is the published one."""
    crop_px: int | None = None
    """The side of the images it wants; None for whole sites."""
    pixel_um: float | None = None
    """Size of the pixels it wants images in, where that is known before any training."""
    batch: int
    """Images a step."""
    together: int | None = None
    """How many neighbours of a batch a loss sees at a time, so that several processes may share a batch by so many or
    a multiple; None for a method that is not known to learn the same thing so: batch norm and contrastive losses, for
    instance, see them all."""
    latent: int | None = None
    """Size of z, for those that draw images: they have `sample(z) -> (B, C, R, R)`."""
    optimisers: dict[str, torch.optim.Optimizer]
    """By name, saved beside the weights. A cached property: PyTorch loads its compiler with the first optimiser, which
    takes seconds that embedding does without."""
    scaler: torch.amp.GradScaler = torch.amp.GradScaler("cpu", enabled=False)
    """Keeps gradients within fp16's range where that is trained in; otherwise it does nothing."""

    def __init__(self, config: Any, channels: int):
        super().__init__()
        self.config, self.channels = config, channels

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, D) float32, each row a function of its own image alone."""
        raise NotImplementedError

    def embed_taps(self, images: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """`embed` at several of its `taps` in one pass, for those that have any."""
        raise NotImplementedError

    def step(self, images: Tensor, n_seen: int, *labels: Tensor) -> dict[str, Tensor]:
        """One optimisation step; returns scalars for the log.

        Args:
            images: (B, C, R, R) float32 in [-1, 1].
            n_seen: images seen before this step.
            labels: (B,) int64, places in `classes`, for methods that learn from labels.
        """
        raise NotImplementedError

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B,) classes; asked of those whose `config.keep` lets validation choose a tick."""
        raise NotImplementedError

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Called between backward and step; where several processes train, they average gradients here."""

    def mean_of_processes(self, mean: Tensor) -> Tensor:
        """The mean over a batch, from that over this process's share: the same thing where one process trains."""
        return mean

    def update(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser called `name` down the gradient of `loss`.

        Where gradients have left fp16's range, the weights stay as they are and `scaler` halves its scale.
        """
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(loss.device.type, enabled=False):  # each derivative as precise as its layer was
            self.scaler.scale(loss).backward()
        # Averaged before they are looked at: an overflow in one process is one in all, and all skip the same steps.
        self.sync_gradients([p for group in optimiser.param_groups for p in group["params"]])
        self.scaler.step(optimiser)
        self.scaler.update()
