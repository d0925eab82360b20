"""What `make kernels` reads and compares; the resolving itself takes a registry and is a job of its own."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "kernels"))
import resolve

ROOT = Path(__file__).parents[1]


def test_a_freeze_is_read_as_pip_writes_it() -> None:
    text = "# a comment\nnumpy==2.1.3\ntorch==2.11.0+cu128\ntorchaudio @ url\nPySocks==1.7.1\nruamel.yaml==0.1\n\n"
    assert resolve.frozen(text) == {
        "numpy": "2.1.3",
        "torch": "2.11.0+cu128",
        "pysocks": "1.7.1",
        "ruamel-yaml": "0.1",
    }
    with pytest.raises(ValueError, match="'numpy>=2' is no line of a pip freeze"):
        resolve.frozen("numpy>=2\n")


@pytest.mark.parametrize("kernel", resolve.KERNELS, ids=[k.name for k in resolve.KERNELS])
def test_kept_lists_are_whole_and_say_where_they_are_from(kernel: resolve.Kernel) -> None:
    there = resolve.frozen((resolve.HERE / kernel.frozen).read_text())
    assert len(there) > 500 and {"numpy", "pandas", "scipy"} <= set(there)
    assert ("torch" in there) != ("torch" in kernel.from_addresses)
    readme = (resolve.HERE / "README.md").read_text()
    (row,) = [line for line in readme.splitlines() if kernel.frozen in line]
    assert kernel.python in row and re.search(r"\d{4}-\d{2}-\d{2}", kernel.frozen)[0] in row
    assert (kernel.from_addresses | there)["torch"] in row and "Apache-2.0" in readme


def test_new_and_moved_packages_are_told_apart() -> None:
    there, found = {"a": "1", "b": "1"}, {"a": "1", "b": "2", "c": "3"}
    assert resolve.compare(there, found) == ({"c": "3"}, {"b": "1 -> 2"})


def test_what_is_resolved_is_what_the_cell_asks_for() -> None:
    assert any(requirement.startswith("torch") for requirement in resolve.asked())
    assert not any("snakemake" in requirement for requirement in resolve.asked())


def test_a_stand_in_is_a_wheel(tmp_path: Path) -> None:
    resolve.stand_in("some-thing", "2.11.0+cpu", tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == "some_thing-2.11.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        assert b"Version: 2.11.0+cpu" in wheel.read("some_thing-2.11.0+cpu.dist-info/METADATA")
