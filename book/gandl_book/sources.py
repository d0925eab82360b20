"""Which files of the library a result depends on: what its code imports, however far away, and nothing kept by hand.

The Snakefile names the module that does a rule's work; the rule's inputs are that module and all it imports, found
without importing any of it. A registry (`METHODS`, `EVALUATIONS`) lists everything and uses one; it is left out, and
`method` and `evaluation` name the one. `BYSTANDERS` are imports that cannot change the results of the
module they are in, each with its reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

import grimp

REGISTRIES = ("gandl_lib.methods", "gandl_lib.evaluate")
BYSTANDERS = {
    ("gandl_lib.train", "gandl_lib.evaluate.separability"): "the probe watches a training and decides nothing",
    ("gandl_lib.train", "gandl_lib.embed"): "the probe's features",
    ("gandl_lib.shards", "gandl_lib.datasets"): "layouts are looked at by who writes a store; its rule names them",
    ("gandl_lib.profiles", "gandl_lib.datasets"): "for embeddings that others computed, which no rule makes",
    ("gandl_book.chapters", "gandl_book.bundle"): "inside the workflow nothing prebuilt is taken",
    ("gandl_book.chapters", "gandl_book.devices"): "advice to readers, not printed inside the workflow",
    ("gandl_lib.screen.run", "gandl_lib.screen.report"): "the page at the end, which changes no number",
}


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("gandl_lib", "gandl_book")


def file_of(module: str) -> str:
    """Where a module lies, from the project's folder on."""
    path = Path("book" if module.startswith("gandl_book") else "", *module.split("."))
    return str(path / "__init__.py" if (root() / path).is_dir() else path.with_suffix(".py"))


def root() -> Path:
    return Path(__file__).resolve().parents[2]


def modules(*names: str) -> set[str]:
    """These modules, all they import, and the packages they lie in (whose `__init__` runs first).

    Raises:
        ValueError: there is no module of that name.
    """
    found, coming = set(), [name if name.startswith("gandl_book") else f"gandl_lib.{name}" for name in names]
    if unknown := [name for name in coming if name not in graph().modules]:
        raise ValueError(f"no module is called {', '.join(unknown)}.")
    while coming:
        module = coming.pop()
        if module in found:
            continue
        if module in REGISTRIES:
            continue
        found.add(module)
        coming += [package] if (package := module.rpartition(".")[0]) not in ("", "gandl_lib", "gandl_book") else []
        coming += [m for m in graph().find_modules_directly_imported_by(module) if (module, m) not in BYSTANDERS]
    return found


def closure(*names: str) -> list[str]:
    """The files of `modules`, sorted."""
    return sorted(map(file_of, modules(*names)))


def method(name: str) -> list[str]:
    """The files that the method called `name` depends on.

    Raises:
        ValueError: there is no such method: a row of a profile with a name of its own does not say which it runs.
    """
    known = _registered("gandl_lib.methods", "METHODS")
    if name not in known:
        raise ValueError(f"no method is called {name!r}; a row of that name has to say which it runs (method: ...).")
    return closure(known[name])


def evaluation(name: str) -> list[str]:
    """The files that `gandl evaluate NAME` depends on."""
    tree = _tree("gandl_lib.evaluate")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    called = functions[_dictionary(tree, "EVALUATIONS")[name]]
    used = {node.id for node in ast.walk(called) if isinstance(node, ast.Name)}
    return closure(*(module for one, module in _imported(tree).items() if one in used))


def chapter(path: Path) -> list[str]:
    """The files that a chapter (py:percent) depends on."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("gandl_lib", "gandl_book")
        ):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in graph().modules else node.module for name in whole}
    return closure(*(name.removeprefix("gandl_lib.") for name in found if name not in ("gandl_lib", "gandl_book")))


def _registered(package: str, registry: str) -> dict[str, str]:
    """Key -> module of a dictionary of imported names."""
    tree = _tree(package)
    imported = _imported(tree)
    return {key: imported[value] for key, value in _dictionary(tree, registry).items()}


def _tree(package: str) -> ast.Module:
    return ast.parse((root() / file_of(package)).read_text())


def _imported(tree: ast.Module) -> dict[str, str]:
    """Name -> module it comes from, without `gandl_lib.`, of the library's imports at the top of a file."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gandl_lib"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                module = whole if whole in graph().modules else node.module
                found[alias.asname or alias.name] = module.removeprefix("gandl_lib.")
    return found


def _dictionary(tree: ast.Module, name: str) -> dict[str, str]:
    """The keys of a dictionary of plain names written at the top of a file, and those names."""
    for node in tree.body:
        targets: Iterable[ast.expr] = getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and any(getattr(t, "id", "") == name for t in targets):
            return {k.value: v.id for k, v in zip(node.value.keys, node.value.values, strict=True)}
    raise ValueError(f"no dictionary called {name}.")
