"""Imports run one way, and the public names are the ones that are announced."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import mi_callback

HEAVY = ("torch", "lightning", "pytorch_lightning", "matplotlib", "tensorboard")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mi_callback.estimation", HEAVY),
        ("mi_callback", HEAVY),
        ("mi_callback.reporting", ("torch", "matplotlib", "mi_callback.collection", "faiss")),
        ("mi_callback.collection", ("matplotlib", "mi_callback.reporting", "faiss")),
    ],
)
def test_imports_run_one_way(module, absent):
    """Evidence: a fresh interpreter's list of modules. Estimation needs no torch, and figures come in lazily."""
    script = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def modules() -> list[str]:
    found = [info.name for info in pkgutil.walk_packages(mi_callback.__path__, "mi_callback.")]
    return ["mi_callback", *found]


@pytest.mark.parametrize("name", modules())
def test_all_names_what_is_public(name):
    """Every module announces its public names: those defined in it, or re-exported by a package's __init__."""
    module = importlib.import_module(name)
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


def test_the_callback_is_imported_on_first_use():
    """Evidence: a fresh interpreter; the name is there without Lightning, and unknown names are errors."""
    script = (
        "import sys, mi_callback; before = 'lightning' in sys.modules; mi_callback.MutualInformationMonitor; "
        "print(before, 'lightning' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mi_callback.nothing  # noqa: B018
