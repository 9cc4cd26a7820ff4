"""What the documents say holds: examples in docstrings run, links lead somewhere, figures named in the README exist."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import mi_callback

ROOT = Path(__file__).parents[1]
MODULES = [info.name for info in pkgutil.walk_packages(mi_callback.__path__, "mi_callback.")]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:.*logger.*")
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    """Evidence: doctest."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs an optional package: {error.name}")
    monkeypatch.chdir(tmp_path)  # examples may write files
    results = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("document", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_lead_to_files(document):
    """Evidence: the file system; addresses of other sites are not tried."""
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if "://" not in target and not (ROOT / target.split("#")[0]).exists()]
    assert missing == []


def test_the_layout_names_files_that_exist():
    """Evidence: the file system. What stands in CONTRIBUTING in backquotes and ends in .py, or is a script of .ci."""
    named = set(re.findall(r"`([\w./]+\.py|\.ci/\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    known = {path.relative_to(ROOT).as_posix() for path in (*ROOT.rglob("mi_callback/**/*.py"), *ROOT.glob(".ci/*"))}
    known |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*.py")}
    assert len(named) > 15
    assert {name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)} == set()


def test_the_readme_names_commands_that_exist():
    """Evidence: the two commands, and the files and extras that they name."""
    commands = [
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("python3 -m venv")
    ]
    assert len(commands) == 2
    assert "examples/regression.py" in commands[0]
    assert commands[1].endswith("-m pytest -n 2")
    assert (ROOT / "constraints.txt").exists()


def test_everything_pinned_is_pinned_once():
    """Evidence: the constraints file; torch must be held, since a newer build is several GB larger."""
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    names = [re.match(r"[a-z0-9.-]+", line)[0] for line in lines]
    assert len(names) == len(set(names))
    assert all("==" in line for line in lines)
    assert "torch==2.13.0" in lines
    for requirement in re.findall(r'"([A-Za-z0-9-]+)>=', (ROOT / "pyproject.toml").read_text(encoding="utf-8")):
        if requirement not in ("hatchling",):
            assert requirement in names


def test_floors_are_the_lower_bounds():
    """Evidence: the two files; what pyproject.toml promises of old versions is what .ci/floors installs."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project]")[1].split("[tool.")[0]
    project = re.sub(
        r"^(loggers|examples) = \[.*?^\]|^transformers = .*?$", "", project, flags=re.DOTALL | re.MULTILINE
    )
    bounds = dict(re.findall(r'"([A-Za-z0-9-]+)(?:\[\w+\])?>=([0-9.]+)"', project))
    floors = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)$", (ROOT / "constraints-floors.txt").read_text(), re.MULTILINE))
    assert bounds.keys() == floors.keys()
    for name, bound in bounds.items():
        assert floors[name] == ".".join([*bound.split("."), "0", "0"][:3]), name


def test_the_table_of_tasks_is_that_of_the_results():
    """Evidence: the file that ``benchmarks.beyond_normal`` wrote; a number of the README that is not in it fails."""
    runs = json.loads((ROOT / "benchmarks/results/beyond_normal.json").read_text(encoding="utf-8"))["runs"]
    found = {run["n"]: run for run in runs}
    rows = {
        line.split("|")[1].strip(): [float(cell) for cell in line.split("|")[2:5]]
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(("| mi_callback, mean", "| its intervals", "| median width"))
    }
    error, held, width = rows.values()
    for i, n in enumerate((1_000, 5_000, 10_000)):
        widths = [math.inf if row["high"] is None else float(row["high"]) - row["low"] for row in found[n]["rows"]]
        assert error[i] == round(found[n]["summary"]["mae"], 3)
        assert held[i] == round(found[n]["summary"]["coverage"], 2)
        assert width[i] == round(float(np.median(widths)), 2)
