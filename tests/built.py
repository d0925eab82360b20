"""The tiny profile run to the end, once for all tests that look at what comes out."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = (
    "Snakefile",
    "CITATION.cff",
    "_config.yml",
    "_toc.yml",
    "pyproject.toml",
    "config",
    "gandl_lib",
    "notebooks",
    "book",
    "weights",
)


def copy_of_project(to: Path) -> Path:
    """All that the workflow reads, in a folder where it may be edited; nothing that earlier runs made."""
    ignored = shutil.ignore_patterns("__pycache__", "chapters", "mathjax")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, ignore=ignored)
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, to / part)
    return to


def snakemake(folder: Path, *arguments: str, profile: str = "tiny", **options) -> subprocess.CompletedProcess:
    """Run the workflow in `folder`, with this library, wherever another one may be installed from."""
    path = os.pathsep.join(map(str, (folder, folder / "book", os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--config", f"profile={profile}"]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, text=True, **options)


@cache
def tiny_book() -> Path:
    """A copy of the project in which `make book PROFILE=tiny` has just run."""
    above = tempfile.mkdtemp(prefix="gandl-tiny-")
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    folder = copy_of_project(Path(above, "project"))
    assert snakemake(folder).returncode == 0, "the workflow failed; its message is above"
    return folder
