"""The layers of `docs/architecture.md`, held against the imports that the source really has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the bottom up: a module may import from its own layer and from those above it in this list.
LAYERS = (
    "broker.protocol.errors",
    "broker.protocol.limits",
    "broker.protocol.frames",
    "broker.protocol.nesting",
    "broker.protocol.codec",
    "broker.protocol",
    "broker.core",
    "broker.transport",
    "broker.cluster",
    "broker.ops",
    "broker.server",
    "broker.settings_toml",
    "broker.settings_problems",
    "broker.settings_loader",
    "broker.exposure",
    "broker.service_manager",
    "broker.serving",
    "broker.commands",
)
# Modules on the side of the layers, and what they may import of the project.
ASIDE = {
    "broker": (),
    "broker.log_writer": (),
    "broker.logs": ("broker.log_writer",),
    "broker.__main__": ("broker.commands",),
}
# What the packages of `services` may import of `broker`.
OF_THE_BROKER = {
    "services.testing": "broker",
    "services.cli": "broker",
    "services": "broker.protocol",
}
# What the inner layers must not import at all: I/O, clocks, logs.
PURE = {
    "broker.protocol": {"trio", "anyio", "asyncio", "socket", "time", "structlog", "logging"},
    "broker.core": {"trio", "anyio", "asyncio", "socket", "time", "structlog", "logging", "select"},
}
ALLOWED_TO_ALL = {"broker", "broker.logs"}


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("broker", "services"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                found.add(full if full in MODULES else module)
    return found


def _runtime_imports(path: Path) -> set[str]:
    """The imports of a file without those that only type checkers see."""
    tree = ast.parse(path.read_text())
    typing_only = {
        f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return _imports(path) - typing_only


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _layer(module: str) -> int:
    """The layer of a module: the most specific entry of the list that it falls under."""
    fitting = [layer for layer in LAYERS if _within(module, layer)]
    assert fitting, f"{module} stands in no layer: add it to the list, or put it elsewhere"
    return LAYERS.index(max(fitting, key=len))


BROKER_MODULES = [name for name in MODULES if _within(name, "broker") and name not in ASIDE]


@pytest.mark.parametrize("module", BROKER_MODULES)
def test_broker_imports_from_layers_above(module: str) -> None:
    own = _layer(module)
    for imported in _imports(MODULES[module]) & MODULES.keys() - ALLOWED_TO_ALL:
        assert _layer(imported) <= own, f"{module} imports {imported}, which stands below it"


@pytest.mark.parametrize("module", [name for name in MODULES if _within(name, "broker")])
def test_broker_never_imports_services(module: str) -> None:
    assert not [name for name in _imports(MODULES[module]) if _within(name, "services")]


@pytest.mark.parametrize("module", ASIDE)
def test_modules_aside_import_what_they_may(module: str) -> None:
    assert _imports(MODULES[module]) & MODULES.keys() - ALLOWED_TO_ALL <= set(ASIDE[module])


@pytest.mark.parametrize("module", [name for name in MODULES if _within(name, "services")])
def test_services_import_of_the_broker_what_they_may(module: str) -> None:
    package = max((name for name in OF_THE_BROKER if _within(module, name)), key=len)
    for imported in _imports(MODULES[module]):
        if _within(imported, "broker"):
            assert _within(imported, OF_THE_BROKER[package]), f"{module} imports {imported}"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if any(_within(name, layer) for layer in PURE)]
)
def test_inner_layers_do_no_io(module: str) -> None:
    (forbidden,) = [names for layer, names in PURE.items() if _within(module, layer)]
    tops = {name.partition(".")[0] for name in _imports(MODULES[module])}
    assert not tops & forbidden, f"{module} must know no I/O, no clock and no logging"


def test_no_import_cycles() -> None:
    graph = {
        name: _runtime_imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()
    }
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert not graph.keys() - done, f"import cycle among {sorted(graph.keys() - done)}"


@pytest.mark.parametrize("module", [name for name in MODULES if MODULES[name].stem == "__init__"])
def test_no_logic_in_package_files(module: str) -> None:
    """A package file holds its docstring, imports, and the names that it exports."""
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    for node in ast.parse(MODULES[module].read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or isinstance(node, plain), f"{module}: line {node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_no_file_has_outgrown_its_subject(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 500
