"""What it takes to read published embeddings of the size of RxRx19a's: 305,520 sites, 1,024 features.

    python benchmarks/published.py OUT.csv [--plates 57]

Writes a simulated embeddings.csv and metadata.csv of that form into a temporary folder, makes profiles of them as
`gandl profiles` does, in a process of its own, and records seconds and peak memory. What the numbers say does not
matter here, only how many there are.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

MEASURE = """
import resource, sys, time
from gandl_lib import profiles
began = time.perf_counter()
made = profiles.published(sys.argv[1], sys.argv[2])
read = time.perf_counter() - began
profiles.write(made, sys.argv[3])
print(made.n_obs, made.n_vars, read, time.perf_counter() - began - read,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path] = Path("results/published.csv")
    plates: int = 57
    """RxRx19a has 26 and 27 of HRCE, and two and two of VERO."""
    features: int = 1024


def main(args: Args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sites = write_metadata(root / "metadata.csv", args.plates)
        write_embeddings(root / "embeddings.csv", sites, args.features)
        command = [sys.executable, "-c", MEASURE, root / "embeddings.csv", root / "metadata.csv", root / "out.h5ad"]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row = dict(zip(("sites", "features", "read_seconds", "write_seconds", "peak_memory_MB"), found, strict=True))
        row |= {
            "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "seconds": time.perf_counter() - began,
            "csv_MB": (root / "embeddings.csv").stat().st_size / 1e6,
            "h5ad_MB": (root / "out.h5ad").stat().st_size / 1e6,
            "device": f"cpu, {os.cpu_count()} cores",
        }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(args.out, index=False, float_format="%.5g")
    print(args.out.read_text())


def write_metadata(path: Path, plates: int) -> list[str]:
    """A plate map of RxRx19a's size: 1,340 wells of four sites a plate."""
    experiments = [("HRCE-1", 26), ("HRCE-2", 27), ("VERO-1", 2), ("VERO-2", 2)]
    names = [(name, plate) for name, n in experiments for plate in range(1, n + 1)][:plates]
    roles = [("Mock", "", "")] * 40 + [("UV Inactivated SARS-CoV-2", "", "")] * 40 + [("", "", "")] * 30
    roles += [("Active SARS-CoV-2", "", "")] * 206
    roles += [("Active SARS-CoV-2", f"compound-{k // 6}", 10.0 ** (k % 6 - 3)) for k in range(1024)]
    sites = []
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        columns = (
            "site_id,well_id,cell_type,experiment,plate,well,site,disease_condition,treatment,treatment_conc,SMILES"
        )
        writer.writerow(columns.split(","))
        for experiment, plate in names:
            for k, what in enumerate(roles):
                row, column = divmod(k, 44)
                well = f"{'A' * (row >= 26)}{chr(65 + row % 26)}{column + 2:02d}"
                for site in range(1, 5):
                    well_id = f"{experiment}_{plate}_{well}"
                    cell = experiment.split("-")[0]
                    writer.writerow([f"{well_id}_{site}", well_id, cell, experiment, plate, well, site, *what, ""])
                    sites.append(f"{well_id}_{site}")
    return sites


def write_embeddings(path: Path, sites: list[str], features: int) -> None:
    """Eight significant digits a number, as a table of float32 has them; a few hundred rows over and over."""
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.8g}" for v in rng.standard_normal(features)) for _ in range(256)]
    with open(path, "w") as file:
        file.write(",".join(["site_id", *(f"feature_{k}" for k in range(features))]) + "\n")
        for k, site in enumerate(sites):
            file.write(f"{site},{rows[k % 256]}\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
