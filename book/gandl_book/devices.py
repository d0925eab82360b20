"""Where a chapter runs, and so which profile to take and how long it takes.

Nothing here was measured on a GPU of Colab's or Kaggle's. What training takes there is calculated: a training image of
profile `gpu` (gpu128) costs the multiplications of some 9 passes through the discriminator and 4 through the generator
(forward 1, backward 2; real and fake, both steps), a tenth more for the lazy penalties. Convolutions in fp32 are taken
to reach 40 % of a device's peak.
"""

from __future__ import annotations

import shutil
import subprocess

DISCRIMINATOR_GFLOP, GENERATOR_GFLOP = 8.59, 8.13
"""Of one image forward through gpu128 with five channels, by torch.utils.flop_counter."""

IMAGES = 2_000_000
"""That config/gpu.yaml trains GAN-DL on."""

PEAK_TFLOPS = {"T4": 8.1, "P100": 9.3, "V100": 14.0, "L4": 30.3, "A100": 19.5, "H100": 67.0}
"""fp32 without tensor cores, as NVIDIA's data sheets have it."""

WITHOUT_BF16 = ("T4", "P100", "V100")
QUICK_MINUTES = 19
"""Of profile quick from nothing to chapter 05's first figure, measured on two idle cores."""


def gpu() -> str:
    """The name of the first GPU here; empty where there is none. Asks the driver, for torch takes seconds to start."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.stdout.strip().split("\n")[0] if run.returncode == 0 else ""


def training_hours(tflops: float, images: int = IMAGES) -> float:
    """Hours of training gpu128 in fp32 on a device with that peak, by this module's calculation."""
    gflop = 1.1 * (9 * DISCRIMINATOR_GFLOP + 4 * GENERATOR_GFLOP)
    return images * gflop / (0.4 * tflops * 1000) / 3600


def advice(name: str) -> str:
    """A sentence or two for somebody whose device is called `name`, say "Tesla T4"; empty without a GPU."""
    if not name:
        return ""
    quick = f"profile 'quick' hardly uses it: about {QUICK_MINUTES} min on two cores (measured)"
    device = next((d for d in PEAK_TFLOPS if d in name.replace("-", " ").split()), None)
    if device is None:
        return f"{name}: {quick}; how long 'gpu' takes here is not known."
    hours = training_hours(PEAK_TFLOPS[device])
    advised = f"{name}: {quick}; training GAN-DL for 'gpu' takes about {hours:.0f} h (calculated, not measured)."
    if device in WITHOUT_BF16:
        advised += (
            " It has no bf16: train in 32-true, the default, or in 16-mixed, fp16 with scaled gradients, "
            "which was tested on a CPU and measured on no GPU."
        )
    return advised
