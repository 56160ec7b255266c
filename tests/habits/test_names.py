"""Every module says what it offers, and every name it offers says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_ad
from tests.habits.repository import PACKAGES, module_name, python_files

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

MODULES = [path for path in python_files(*PACKAGES) if path.name != "__main__.py" and path.read_text().strip()]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def offered(tree: ast.Module) -> list[str] | None:
    """The value of `__all__`, None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def definitions(tree: ast.Module) -> dict[str, Definition]:
    return {node.name: node for node in tree.body if isinstance(node, Definition)}


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Names that a module binds at its top level, or there under a condition (TYPE_CHECKING)."""
    for node in (inner for outer in tree.body for inner in (outer.body if isinstance(outer, ast.If) else [outer])):
        if isinstance(node, Definition):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_there_are_modules() -> None:
    assert {"edge_ad", "edge_ad.bundle", "build_engines.builder"} <= {module_name(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_all_is_complete(path: Path) -> None:
    """Public functions and classes are offered; what is offered exists; nothing is offered twice."""
    tree = tree_of(path)
    public = {name for name in definitions(tree) if not name.startswith("_")}
    names = offered(tree)
    if names is None:
        assert not public, "a module that defines public names lists them in __all__"
        return
    assert sorted(set(names)) == sorted(names)
    assert public <= set(names)
    assert set(names) <= set(bound_names(tree))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_and_public_names_are_documented(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    undocumented = [
        name for name, node in definitions(tree).items() if not name.startswith("_") and not ast.get_docstring(node)
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", edge_ad.__all__)
def test_the_public_classes_document_their_methods_too(name: str) -> None:
    public = getattr(edge_ad, name)
    if not isinstance(public, type):
        assert isinstance(public, str)
        return
    undocumented = [
        member
        for member, value in vars(public).items()
        if not member.startswith("_") and (callable(value) or isinstance(value, property)) and not value.__doc__
    ]
    assert undocumented == []
