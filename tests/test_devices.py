"""What a reader on a GPU is told."""

from pathlib import Path

import pytest
import torch
import yaml
from gandl_book import devices
from torch.utils.flop_counter import FlopCounterMode

from gandl_lib.methods.gandl import GANDL, PRESETS


def test_advice_says_what_is_measured_and_what_is_not() -> None:
    t4 = devices.advice("Tesla T4")
    assert "(measured)" in t4 and "(calculated, not measured)" in t4
    assert "no bf16" in t4 and "16-mixed" in t4 and "measured on no GPU" in t4
    assert "no bf16" not in devices.advice("NVIDIA A100-SXM4-40GB") and "h (calculated" in devices.advice("NVIDIA L4")
    assert "not known" in devices.advice("NVIDIA B300") and devices.advice("") == ""


def test_the_calculation_is_of_the_profile_and_network_that_it_names() -> None:
    row = yaml.safe_load((Path(__file__).parents[1] / "config" / "gpu.yaml").read_text())["methods"]["gandl"]
    assert row == {"preset": "gpu128", "images": devices.IMAGES}
    method = GANDL(PRESETS["gpu128"], 5).eval().requires_grad_(False)
    found = []
    for part, argument in (
        (method.discriminator, torch.zeros(1, 5, 128, 128)),
        (method.generator, torch.zeros(1, 512)),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            part(argument)
        found.append(flops.get_total_flops() / 1e9)
    assert found == pytest.approx([devices.DISCRIMINATOR_GFLOP, devices.GENERATOR_GFLOP], rel=0.01)
    assert devices.training_hours(8.0, 10) == pytest.approx(devices.training_hours(16.0, 20))


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert devices.gpu() == ""
