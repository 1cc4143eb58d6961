"""The layout: floors, import cycles, sizes of files and functions, and tests that mirror files."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "backbones", "heads", "zoo", "tools")
ALLOWED = {
    "kernels": {"kernels"},
    "backbones": {"backbones", "kernels"},
    "heads": {"heads", "kernels"},
    "zoo": {"zoo", "backbones", "heads", "kernels"},
    "tools": {"tools", "zoo", "backbones", "heads", "kernels"},
}
"""Packages that each package may import from; all may import the modules at the root."""

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_KERNEL_LINES = 120


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Returns the parsed modules of the package by their dotted names, without tests and configs."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    parsed = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        parsed[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return parsed


def path_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module: str, nodes: list[ast.stmt]) -> set[str]:
    """Returns the modules of the package that statements import, whether relative or absolute."""
    package = module.split(".") if path_of(module).name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()
    for node in nodes:
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        elif (node.module or "").partition(".")[0] == "attnzoo":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        target = ".".join(part for part in base if part)
        for alias in node.names:
            inner = f"{target}.{alias.name}" if target else alias.name
            found.add(inner if inner in sources() else target)
    return found & set(sources())


def top_level_statements(module: str) -> list[ast.stmt]:
    """Returns the statements that run on import, without those for type checkers."""
    statements: list[ast.stmt] = []
    for node in sources()[module].body:
        if isinstance(node, ast.If | ast.Try):
            if "TYPE_CHECKING" not in ast.dump(node.test if isinstance(node, ast.If) else node):
                statements += [inner for inner in ast.walk(node) if isinstance(inner, ast.stmt)]
        else:
            statements.append(node)
    return statements


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down(package: str) -> None:
    wrong = {
        f"{module} imports {target}"
        for module, tree in sources().items()
        if module.partition(".")[0] == package
        for target in imports_of(module, [node for node in ast.walk(tree) if isinstance(node, ast.stmt)])
        if target.partition(".")[0] not in ALLOWED[package]
    }
    assert not wrong


def test_no_import_cycles() -> None:
    """Imports that run on import form no cycle between modules. A package's `__init__` may import its modules."""
    graph = {
        module: {
            target for target in imports_of(module, top_level_statements(module)) if not module.startswith(f"{target}.")
        }
        for module in sources()
    }
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module not in finished:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_files_are_short() -> None:
    long = {name: len(path_of(name).read_text(encoding="utf-8").splitlines()) for name in sources()}
    assert not {name: count for name, count in long.items() if count > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    """Bodies count, without signatures and docstrings; Triton kernels may be twice as long."""
    long = {}
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_kernel = any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list)
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > (MAX_KERNEL_LINES if is_kernel else MAX_FUNCTION_LINES):
                    long[f"{module}.{node.name}"] = lines
    assert not long


def has_logic(module: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(sources()[module]))


def test_every_file_with_logic_has_a_test_file_of_its_name() -> None:
    missing = []
    for module in sources():
        *folders, name = module.split(".")
        if path_of(module).name == "__init__.py" or not has_logic(module):
            continue
        if not (ROOT / "tests" / Path(*folders) / f"test_{name}.py").is_file():
            missing.append(module)
    assert not missing, f"{len(missing)} modules without a test file of their name: {missing}"
