"""The command line: ``python -m mi_callback report run.json -o run.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line; None for those of the process.

    Returns:
        The process's exit status.
    """
    parser = argparse.ArgumentParser("python -m mi_callback", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="write one HTML file of a history; needs the extra report")
    report.add_argument(
        "source",
        help="a history that was saved as .json or .csv, a checkpoint, or the folder of a logger's run or of Trainer's "
        "checkpoints, of which the newest file that holds a history is taken",
    )
    report.add_argument("-o", "--output", default="report.html", help="the file to write (default: %(default)s)")
    report.add_argument("--title", default="Mutual information while training", help="heading of the page")
    report.add_argument("--monitor", help="part of the monitor's state key, for a checkpoint with several monitors")
    given = parser.parse_args(arguments)
    from mi_callback.reporting import History, write_report

    try:
        path = write_report(History.load(given.source, monitor=given.monitor), given.output, title=given.title)
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
