"""Would the chapters' first cell install on Colab and Kaggle today, and what would it bring?

    make kernels

The cell installs the library and constrains every package that the kernel already has. Here pip resolves the same for
the kernel's Python, without installing anything: the library's requirements, constrained by a frozen list.

Two things differ from the kernel. What is there from an address (torch, on Colab) is not at the registry at that
version; a wheel of that version without requirements stands for it. And pip reads markers like `python_version <
"3.13"` as of the Python that runs it, so run this with one that is near.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Kernel:
    name: str
    frozen: str
    python: str
    from_addresses: dict[str, str]
    """Versions that the list leaves out, of packages that requirements of ours may name."""


KERNELS = (
    Kernel("Colab, CPU", "colab-2026-08-19-pip-freeze.txt", "3.13", {"torch": "2.11.0+cpu"}),
    Kernel("Colab, GPU", "colab-2026-08-19-pip-freeze.gpu.txt", "3.13", {}),
    Kernel("Kaggle", "kaggle-base-2026-05-14-pip-freeze.txt", "3.12", {"torch": "2.10.0+cpu"}),
)


def frozen(text: str) -> dict[str, str]:
    """Name -> version of a `pip freeze`; what came from an address has none and is left out.

    Raises:
        ValueError: a line that is neither.
    """
    found = {}
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#") or " @ " in line:
            continue
        if not (match := re.fullmatch(r"([\w.-]+)==([\w.+!-]+)", line)):
            raise ValueError(f"{line!r} is no line of a pip freeze (name==version, or name @ address).")
        found[canonicalize_name(match[1])] = match[2]
    return found


def asked() -> list[str]:
    """What the first cell brings: the library's requirements, without extras, as the cell asks for none.

    Raises:
        ValueError: the cell asks for something else, which this does not resolve.
    """
    cell = (ROOT / "notebooks" / "00_question.py").read_text()
    sources = re.findall(r'"(gandl\S*) @ ', cell)
    if not sources or set(sources) != {"gandl"}:
        raise ValueError(f"the first cell installs {sources}; only gandl without extras is resolved here.")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def stand_in(name: str, version: str, folder: Path) -> None:
    """A wheel of that name and version that requires nothing."""
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def resolve(kernel: Kernel, requirements: list[str]) -> dict[str, str]:
    """Name -> version of all that would have to be there.

    Raises:
        ValueError: nothing fits, with pip's words.
    """
    there = frozen((HERE / kernel.frozen).read_text()) | kernel.from_addresses
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder, "keep.txt")
        keep.write_text("".join(f"{name}=={version}\n" for name, version in there.items()))
        for name, version in there.items():
            if "+" in version:
                stand_in(name, version, Path(folder))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--target", f"{folder}/target", "--python-version", kernel.python, "--only-binary=:all:"]
        command += ["--constraint", str(keep), "--find-links", folder, "--report", f"{folder}/report.json"]
        run = subprocess.run([*command, *requirements], capture_output=True, text=True)
        if run.returncode:
            raise ValueError(f"{kernel.name}: {run.stderr.strip()}")
        report = json.loads(Path(folder, "report.json").read_text())
    return {canonicalize_name(p["metadata"]["name"]): p["metadata"]["version"] for p in report["install"]}


def compare(there: dict[str, str], found: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Of what was found: packages that are new, and those that would take the place of another version."""
    new = {name: version for name, version in found.items() if name not in there}
    moved = {name: f"{there[name]} -> {v}" for name, v in found.items() if name in there and there[name] != v}
    return new, moved


def main() -> int:
    requirements, failed = asked(), 0
    print(f"The first cell brings {', '.join(Requirement(r).name for r in requirements)}.")
    for kernel in KERNELS:
        there = frozen((HERE / kernel.frozen).read_text()) | kernel.from_addresses
        try:
            found = resolve(kernel, requirements)
        except ValueError as error:
            print(f"\n{error}")
            failed += 1
            continue
        new, moved = compare(there, found)
        print(f"\n{kernel.name}, Python {kernel.python}, {kernel.frozen}")
        print(f"  {len(found) - len(new) - len(moved)} of {len(there)} packages used as they are; new:")
        for name, version in sorted(new.items()):
            print(f"  + {name:24} {version}")
        for name, versions in sorted(moved.items()):
            print(f"  ! {name:24} {versions}")
        failed += bool(moved)
    return failed


if __name__ == "__main__":
    sys.exit(main())
