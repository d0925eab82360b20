"""Tensors in safetensors, words in JSON, nothing pickled; files appear whole or not at all.

Two files come out of a training run: `state.safetensors` (all that resuming needs, optimisers included) and
`weights.safetensors` (all that embedding and sampling need). The header of either says how to rebuild the method.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import typing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gandl_lib import files
from gandl_lib.methods import METHODS, Method


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write atomically: `<path>.partial`, then rename. `header` must be JSON-able.

    Raises:
        OSError: the disk is full or the folder not writable.
    """
    contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with files.replacing(path) as partial:
        try:
            save_file(contiguous, partial, metadata={"gandl": json.dumps(header, sort_keys=True)})
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by `save`.

    Raises:
        ValueError: where the file is missing, damaged or not ours.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file.")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get("gandl")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}).") from None
    if header is None:
        raise ValueError(
            f"{path}: a safetensors file, but not one that `gandl train` wrote (its header lacks 'gandl')."
        )
    return tensors, json.loads(header)


def config_to_json(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def config_from_json(cls: type, values: dict[str, Any]) -> Any:
    """Rebuild a (nested) frozen dataclass from `config_to_json`'s dictionary."""
    types = typing.get_type_hints(cls)
    return cls(
        **{
            name: config_from_json(types[name], value) if dataclasses.is_dataclass(types[name]) else value
            for name, value in values.items()
        }
    )


def weights(method: Method) -> dict[str, Tensor]:
    """The part of a method's state that embedding and sampling need."""
    return {name: t for name, t in method.state_dict().items() if not name.startswith(method.training_only)}


def load_weights(path: Path) -> tuple[Method, dict[str, Any]]:
    """A method as a weights file holds it, ready to `embed`, and the file's header.

    Raises:
        ValueError: where the file names a method or has tensors that this version does not know.
    """
    tensors, header = read(path)
    if header["method"] not in METHODS:
        raise ValueError(f"{path}: made by unknown method {header['method']!r}; known are {', '.join(METHODS)}.")
    cls = METHODS[header["method"]]
    config = config_from_json(next(iter(cls.presets.values())).__class__, header["config"])
    method = cls(config, len(header["channels"]))
    missing, unexpected = method.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.startswith(method.training_only)]
    if missing or unexpected:
        raise ValueError(
            f"{path}: tensors missing {missing[:3]}, unknown {unexpected[:3]}; written by another version?"
        )
    return method.eval(), header


def optimiser_tensors(method: Method) -> dict[str, Tensor]:
    """The state of every optimiser as flat tensors, `optimiser.<its name>.<parameter>.<entry>`."""
    names = {p: name for name, p in method.named_parameters()}
    return {
        f"optimiser.{key}.{names[p]}.{entry}": value
        for key, optimiser in method.optimisers.items()
        for p, state in optimiser.state.items()
        for entry, value in state.items()
    }


def load_optimisers(method: Method, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave, in each parameter's device and memory layout."""
    parameters = dict(method.named_parameters())
    for name, value in tensors.items():
        key, rest = name.removeprefix("optimiser.").split(".", 1)
        parameter_name, entry = rest.rsplit(".", 1)
        parameter = parameters[parameter_name]
        if value.shape == parameter.shape and entry != "step":
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        method.optimisers[key].state[parameter][entry] = value


def environment() -> dict[str, Any]:
    """What else decides the bits: versions, device, commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("gandl", "torch", "numpy", "scikit-learn", "anndata", "zarr")},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores",
        "git_commit": commit.stdout.strip() or None,
    }
