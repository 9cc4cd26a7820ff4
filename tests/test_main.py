"""The command line makes a report of whatever holds a history."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mi_callback import MutualInformationMonitor
from mi_callback.__main__ import main
from mi_callback.reporting import History
from tests.models import QUIET, Net, loader, trainer
from tests.reporting.records import a_history

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def test_a_report_of_a_file_a_checkpoint_and_a_folder(tmp_path, capsys):
    """Evidence: the pages of a network that has trained; of the folder, the newest file that holds a history."""
    pytest.importorskip("plotly")
    callback = MutualInformationMonitor(n_permutations=2, space="scores", quantities=("target",))
    run = trainer(tmp_path, callback, max_epochs=2)
    run.fit(Net(), loader())
    folder = tmp_path / "logs" / "version_0"
    run.save_checkpoint(folder / "checkpoints" / "last.ckpt")
    (folder / "figures").mkdir()
    (folder / "other.json").write_text("[1]")
    (folder / "later.json").write_text('{"broken')
    callback.history.save(tmp_path / "run.json")
    for source in (tmp_path / "run.json", folder / "checkpoints" / "last.ckpt", folder):
        page = tmp_path / "page.html"
        assert main(["report", str(source), "-o", str(page), "--title", "Of <this>"]) == 0
        assert "Of &lt;this&gt;" in page.read_text()
        assert "3 layers, 2 epochs, 60 samples" in page.read_text()
        page.unlink()
    older = a_history(2)
    older.save(folder / "older.json")
    os.utime(folder / "older.json", (0, 0))
    assert History.load(folder).layers == callback.history.layers
    capsys.readouterr()


def test_faults_are_a_line_and_leave_no_file(tmp_path):
    (tmp_path / "foreign.json").write_text('{"epochs": 3}')
    source, page = str(tmp_path / "foreign.json"), tmp_path / "page.html"
    command = [sys.executable, "-m", "mi_callback", "report", source, "-o", str(page)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("path: expected a file that History.save() wrote, got 'foreign.json'")
    assert len(run.stderr.splitlines()) == 1
    assert not page.exists()
