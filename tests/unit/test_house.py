"""The rules of docs/HOUSE.md that a machine can hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "nuage_appliance"
MODULES = sorted(PRODUCT.rglob("*.py"))
_MAY_IMPORT = {
    "base": {"base"},
    "model": {"base", "model"},
    "config": {"config"},
    "clients": {"base", "model", "config", "clients"},
    "core": {"base", "model", "core"},
    "api": {"base", "model", "core", "api"},
}


def layer(name):
    """The layer of a dotted module name of the product."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path, *, with_types=False):
    """The dotted names a module imports when it runs; those for type checkers only on request."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            and not with_types
        ):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_layer_imports_only_what_is_below_it(path):
    own = layer(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own in ("app", "cli", "__main__", "__init__", ""):
        return
    for name in imports(path):
        if name.startswith("nuage_appliance."):
            assert layer(name) in _MAY_IMPORT[own] or name == "nuage_appliance.base", (
                f"{path.name} imports {name}"
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_product_never_imports_the_lab_or_the_tests(path):
    assert not [
        name
        for name in imports(path, with_types=True)
        if name.split(".")[0] in ("nuage_lab", "tests")
    ]


def test_the_lab_never_imports_the_product():
    for path in (ROOT / "nuage_lab").rglob("*.py"):
        assert not [
            name
            for name in imports(path, with_types=True)
            if name.split(".")[0] == "nuage_appliance"
        ], path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_gevent_stays_out_of_the_core(path):
    if any(name.split(".")[0] == "gevent" for name in imports(path)):
        own = layer(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert own in ("__main__", "base", "api", "clients", "app"), path


def test_everything_is_caught_only_in_the_plugin_server_and_the_supervisor():
    found = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
            ):
                found[path.name] = found.get(path.name, 0) + 1
    assert set(found) <= {"plugin_server.py", "supervisor.py"}
    assert sum(found.values()) <= 3, found


def test_what_catches_a_base_exception_raises_it_again():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.ExceptHandler)
                and isinstance(node.type, ast.Name)
                and node.type.id == "BaseException"
            ):
                assert isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None, path


def test_only_one_module_writes_files_that_are_replaced_as_a_whole():
    writers = [path for path in MODULES if re.search(r"tempfile|os\.replace", path.read_text())]
    assert writers == [PRODUCT / "base" / "files.py"]


def test_no_shell_is_ever_asked():
    pattern = re.compile(r"shell\s*=\s*True|os\.system|os\.popen|subprocess")
    assert not [path for path in MODULES if pattern.search(path.read_text())]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_every_public_function_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        assert ast.get_docstring(inner), f"{path.name}: {node.name}.{inner.name}"
