"""Fixtures for all tests: seeds, a hand-made screen in RxRx19a's layout, and real data where there is some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
torch.set_num_threads(1)

LEFT_OUT = ("left out", "real data")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def gandl_data(request: pytest.FixtureRequest) -> Path | None:
    """The folder of real data, $GANDL_DATA, or None (said in the summary)."""
    named = os.environ.get("GANDL_DATA")
    if named and Path(named).is_dir():
        return Path(named)
    if named:
        raise pytest.UsageError(f"GANDL_DATA={named}: no such folder; unset it to test without real data.")
    request.node.user_properties.append(LEFT_OUT)  # travels with the test's report, whichever process ran it
    return None


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a vision transformer of random weights, as $GANDL_ENCODER."""
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    folder = tmp_path / "encoder"
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=2)).save_pretrained(folder)
    monkeypatch.setenv("GANDL_ENCODER", str(folder))
    return folder


@pytest.fixture
def imagenet_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, named by GANDL_WEIGHTS, with a SqueezeNet that has seen nothing: right names, wrong knowledge."""
    from safetensors.torch import save_file

    from gandl_lib.nn.squeezenet import SqueezeNet

    folder = tmp_path / "imagenet"
    folder.mkdir()
    save_file(
        {key: t.half() for key, t in SqueezeNet().state_dict().items()}, folder / "squeezenet1_1-imagenet.safetensors"
    )
    monkeypatch.setenv("GANDL_WEIGHTS", str(folder))
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    reports = [report for kind in ("passed", "failed", "skipped") for report in stats.get(kind, [])]
    reports = [report for report in reports if isinstance(report, pytest.TestReport)]  # not a module skipped whole
    left_out = sorted({report.nodeid for report in reports if LEFT_OUT in map(tuple, report.user_properties)})
    if left_out:
        terminalreporter.section("no real data here (GANDL_DATA): the real-data part of these tests was left out")
        for node in left_out:
            terminalreporter.line(node)


CONDITIONS = (  # disease_condition, treatment, treatment_conc of a plate's wells in turn
    ("Mock", "", ""),
    ("Active SARS-CoV-2", "", ""),
    ("UV Inactivated SARS-CoV-2", "", ""),
    ("Active SARS-CoV-2", "Remdesivir (GS-5734)", "0.3"),
    ("", "", ""),
)


@pytest.fixture
def make_screen(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a screen of random images in RxRx19a's layout and returns its folder.

    Every plate has `wells` wells, going round Mock, infected, UV, treated, blank.
    """

    def make(
        name: str = "screen",
        plates: int = 2,
        wells: int = 5,
        sites: int = 2,
        size: tuple[int, int] = (24, 20),
        dtype: str = "uint8",
        seed: int = 0,
    ) -> Path:
        root, rng, rows = tmp_path / name, np.random.default_rng(seed), []
        for plate in range(1, plates + 1):
            folder = root / "images" / "VERO-1" / f"Plate{plate}"
            folder.mkdir(parents=True)
            for w in range(wells):
                well = f"{'ABCDEFGH'[w // 10]}{w % 10 + 2:02d}"
                condition, compound, dose = CONDITIONS[w % len(CONDITIONS)]
                for site in range(1, sites + 1):
                    well_id = f"VERO-1_{plate}_{well}"
                    identity = [f"{well_id}_{site}", well_id, "VERO", "VERO-1", plate, well, site]
                    rows.append([*identity, condition, compound, dose, "C=O |c:6,t:3|" if compound else ""])
                    for channel in range(1, 6):
                        # Channels of different brightness, so that a test notices when they are swapped.
                        top = np.iinfo(dtype).max * channel // 5
                        pixels = rng.integers(0, top, size, dtype=dtype, endpoint=True)
                        Image.fromarray(pixels).save(folder / f"{well}_s{site}_w{channel}.png")
        columns = (
            "site_id,well_id,cell_type,experiment,plate,well,site,disease_condition,treatment,treatment_conc,SMILES"
        )
        pd.DataFrame(rows, columns=columns.split(",")).to_csv(root / "metadata.csv", index=False)
        return root

    return make
