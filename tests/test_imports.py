"""Imports run one way, and the public names are the ones that are announced."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mi_callback

PACKAGE = Path(mi_callback.__file__).parent
HEAVY = ("torch", "lightning", "pytorch_lightning", "matplotlib", "tensorboard")
MODULES = {
    ".".join(["mi_callback", *f.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): f
    for f in PACKAGE.rglob("*.py")
}

ALLOWED = {
    "estimation": ("mi_callback.estimation", "mi_callback.quantities"),
    "collection": ("mi_callback.collection", "mi_callback.quantities"),
    "reporting": ("mi_callback.reporting", "mi_callback.estimation.records", "mi_callback.quantities"),
}


def brought_in(*steps: str) -> list[set[str]]:
    """Names of all modules that a fresh interpreter has after each step."""
    script = "import sys\n" + "".join(f"{step}\nprint(*sys.modules)\n" for step in steps)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [set(line.split()) for line in run.stdout.splitlines()]


def test_what_an_import_brings_in():
    """Evidence: a fresh interpreter's list of modules. Estimating needs no torch, and figures come in lazily.

    The package alone has not even numpy, which is why it is there at once.
    """
    steps = ["import mi_callback", "import mi_callback.estimation", "import mi_callback.reporting"]
    package, *light = brought_in(*steps)
    assert package.isdisjoint({*HEAVY, "numpy", "scipy", "numba", "faiss"})
    assert {module for module in package if module.startswith("mi_callback")} == {"mi_callback"}
    for modules in light:
        assert modules.isdisjoint(HEAVY)


@pytest.mark.slow
def test_what_comes_with_torch():
    """Evidence: as above. Without a Trainer nothing needs Lightning, and collecting draws nothing."""
    collection, core, standalone, callback = brought_in(
        "import mi_callback, mi_callback.collection",
        "import mi_callback.monitoring.core",
        "import mi_callback.standalone",
        "mi_callback.MutualInformationMonitor",
    )
    assert collection.isdisjoint({"matplotlib", "mi_callback.reporting"})
    assert core.isdisjoint({"lightning", "pytorch_lightning", "matplotlib", "tensorboard"})
    assert standalone.isdisjoint({"lightning", "pytorch_lightning", "matplotlib", "tensorboard", "transformers"})
    assert {"mi_callback.callback", "lightning"} <= callback - standalone


def test_the_package_is_imported_at_once():
    """Evidence: processor time of a fresh interpreter, best of three; .02 s measured, 1.1 s with what is lazy now."""
    script = "import time; start = time.process_time(); import mi_callback; print(time.process_time() - start)"
    run = [sys.executable, "-c", script]
    took = min(float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(3))
    assert took < 0.3


def imported(file: Path) -> set[str]:
    """Dotted names of the modules that a file imports anywhere, lazily or for type checking too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= submodules if len(submodules) == len(node.names) else {node.module or "", *submodules}
    return names


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_the_parts_do_not_import_each_other(part):
    """Evidence: the import statements. Only reporting reads another part, and only its records."""
    for file in sorted((PACKAGE / part).glob("**/*.py")):
        ours = {name for name in imported(file) if name.split(".")[0] == "mi_callback"}
        assert {name for name in ours if not name.startswith(ALLOWED[part])} == set(), file.name


def test_imports_have_no_circle():
    """Evidence: the import statements, lazy ones and those for types included, followed from file to file.

    The package's own __init__ is left out, which gives the callback on first use: whoever imports a part imports it.
    """
    files = {name: file for name, file in MODULES.items() if name != "mi_callback"}
    left = {name: imported(file) & files.keys() - {name} for name, file in files.items()}
    while ready := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in ready}
    assert left == {}, "files of a circle, or above one"


def test_one_file_imports_faiss():
    """Evidence: the import statements; another search library would be a change in one place."""
    assert [file.name for file in PACKAGE.glob("**/*.py") if "faiss" in imported(file)] == ["neighbors.py"]


def modules() -> list[str]:
    found = [info.name for info in pkgutil.walk_packages(mi_callback.__path__, "mi_callback.")]
    return ["mi_callback", *found]


@pytest.mark.parametrize("name", modules())
def test_all_names_what_is_public(name):
    """Every module announces its public names: those defined in it, or re-exported by a package's __init__."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("mi_callback"):
            raise
        pytest.skip(f"needs an optional package: {error.name}")
    announced = module.__all__
    assert announced == sorted(announced, key=_order), "keep __all__ sorted"
    for public in announced:
        assert getattr(module, public) is not None
    if hasattr(module, "__path__"):
        here = {key for key, value in vars(module).items() if not isinstance(value, ModuleType)}
    else:
        here = {key for key, value in vars(module).items() if getattr(value, "__module__", None) == name}
    ignored = {"annotations", "TYPE_CHECKING"}
    assert {key for key in here - ignored if not key.startswith("_")} <= set(announced)


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_names_that_are_not_public_are_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mi_callback.nothing  # noqa: B018
    assert set(mi_callback.__all__) <= set(dir(mi_callback))
