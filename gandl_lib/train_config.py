"""What every training run is told, whatever the method. Apart from `train.py`, so that commands start without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    images: int = 20_000
    """Images to see, crops counted one by one."""
    ticks: int = 20
    """How often to log, probe, draw samples and save the state."""
    seed: int = 0
    precision: str = "32-true"
    """32-true; bf16-mixed where the device has it; 16-mixed on a GPU that has not, like a T4."""
    accelerator: str = "auto"
    devices: int = 1
    workers: int = 1
    rotate: bool = True
    """Show crops in all eight ways they can lie."""
