"""Profiles in, tidy tables out; torch is never imported here.

`EVALUATIONS` maps the names of `gandl evaluate NAME` to functions of a list of profiles, one a method. Each returns its
tables by file name without `.csv`, in which `{out}` stands for the name the caller chose.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from anndata import AnnData

from gandl_lib.evaluate import (
    axes,
    clusters,
    cost,
    distances,
    dose_response,
    hits,
    moa,
    paired,
    probe_size,
    replicates,
    separability,
    zero_shot,
)

Tables = dict[str, pd.DataFrame]


def _separability(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    table, decisions = separability.judged(profiles, normalisation, seed=seed)
    tables = {"{out}": table, "confusion": separability.confusion(decisions), "cost": cost.cost(profiles)}
    return tables if len(profiles) < 2 else tables | {"paired": paired.paired(decisions, seed=seed)}


def _axes(profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int) -> Tables:
    return {
        "{out}": axes.axes(profiles, normalisation=normalisation[0], seed=seed),
        "efficacy": axes.efficacy(profiles, normalisation[0], seed),
    }


def _dose_response(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    scores = axes.efficacy(profiles, normalisation[0], seed)
    curves = dose_response.curves(scores)
    tables = {"{out}": curves, "dose_points": dose_response.points(scores)}
    return tables if truth is None else tables | {"dose_truth": dose_response.evaluate_truth(curves, truth)}


def _zero_shot(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    confusion, summary = zero_shot.zero_shot(profiles, seed)
    return {"{out}": confusion, "{out}_summary": summary}


def _probe_size(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    return {"{out}": probe_size.probe_size(profiles, normalisation[0], seed)}


def _replicates(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    return {"{out}": replicates.replicates(profiles, normalisation[0], seed)}


def _hits(profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int) -> Tables:
    return {"{out}": hits.hits(profiles, normalisation[0], seed)}


def _moa(profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int) -> Tables:
    table, counts = moa.compare(profiles, seed)
    return {"{out}": table, "{out}_confusion": counts}


def _distances(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> Tables:
    return {"{out}": distances.distances(profiles, normalisation[0], seed)}


def _clusters(profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int) -> Tables:
    table, points = clusters.clusters(profiles, normalisation[0], seed)
    return {"{out}": table, "{out}_points": points}


EVALUATIONS: dict[str, Callable[..., Tables]] = {
    "separability": _separability,
    "axes": _axes,
    "dose-response": _dose_response,
    "zero-shot": _zero_shot,
    "probe-size": _probe_size,
    "replicates": _replicates,
    "hits": _hits,
    "moa": _moa,
    "distances": _distances,
    "clusters": _clusters,
}
