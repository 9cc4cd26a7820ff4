"""Histories in files: everything as JSON, rows as CSV, and what a Lightning checkpoint holds."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mi_callback.reporting.series import ROW_KEYS, Row

__all__ = ["FORMAT", "is_history_state", "load", "save", "write_whole"]

FORMAT = "mi_callback.history/2"  # marks the state, so that it is found in a checkpoint whatever key it stands under
_FORMATS = ("mi_callback.history/1", FORMAT)  # those that can be read

_ENDINGS = (".json", ".ckpt")  # of the files that are looked into in a folder
_INTEGERS = {"run", "epoch", "step", "n_samples", "n_points"}
_WORDS = {"data", "layer", "quantity", "unit", "estimator", "space"}
_OPTIONAL = {"p_value", "noise_std", "reduction", "n_points"}  # None where there is none; other numbers are NaN


def is_history_state(state: object) -> bool:
    """Whether ``state`` is what ``History.state_dict`` returns."""
    return isinstance(state, Mapping) and state.get("format") in _FORMATS


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write the state of a history as the ending of ``path`` says, see ``History.save``."""
    if path.suffix == ".json":
        # JSON has no NaN: null stands for it, and a browser or another language can read the file
        write_whole(path, json.dumps(_null_for_nan(dict(state)), allow_nan=False))
    elif path.suffix == ".csv":
        text = io.StringIO(newline="")
        columns = state["columns"] | {"flags": [" ".join(flags) for flags in state["columns"]["flags"]]}
        writer = csv.writer(text)
        writer.writerow(ROW_KEYS)
        writer.writerows(zip(*(columns[key] for key in ROW_KEYS), strict=True))
        write_whole(path, text.getvalue())
    else:
        raise ValueError(f"path: expected a name that ends in .json or .csv, got {path.name!r}.")


def write_whole(path: Path, text: str) -> None:
    """Write a text file, or leave what is there as it is: never a part of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            file.write(text)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path, monitor: str | None) -> dict[str, Any]:
    """The state of the history in the file, see ``History.load``."""
    if path.is_dir():
        return _from_folder(path, monitor)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {str(path)!r}.")
    try:
        if path.suffix == ".json":
            return _from_json(path)
        if path.suffix == ".csv":
            return _from_csv(path)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"path: expected a file that History.save() wrote, got {path.name!r}, which is none, or broken: {error}"
        ) from error
    return _from_checkpoint(path, monitor)


def _from_folder(path: Path, monitor: str | None) -> dict[str, Any]:
    """The newest history in a folder and those below it."""
    files = [file for ending in _ENDINGS for file in path.rglob(f"*{ending}") if file.is_file()]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        with contextlib.suppress(ValueError, OSError):
            return load(file, monitor)
    raise ValueError(
        f"path: expected a folder with a checkpoint or a .json file that holds a history, got {str(path)!r}, with "
        f"{len(files)} such files that hold none. Was there a MutualInformationMonitor, and were checkpoints written?"
    )


def _from_checkpoint(path: Path, monitor: str | None) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise of all kinds on what is no checkpoint
        raise ValueError(
            f"path: expected a checkpoint, or a file that ends in .json or .csv, got {path.name!r}, which torch.load "
            f"cannot read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    found = dict(_states(content))
    named = {key: state for key, state in found.items() if monitor is None or monitor in key}
    if len(named) != 1:
        wanted = "one history" if monitor is None else f"one history under a key with {monitor!r}"
        raise ValueError(
            f"path: expected {wanted} in {path.name!r}, got {len(named)}; there are {list(found)}. "
            + ("Choose one by monitor=." if found else "Was it trained with a MutualInformationMonitor?")
        )
    return next(iter(named.values()))


def _states(state: object, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Histories in nested mappings, whatever they stand under, each with the path of keys to it."""
    if is_history_state(state):
        yield key, dict(state)  # type: ignore[call-overload]
    elif isinstance(state, Mapping):
        for name, inner in state.items():
            yield from _states(inner, f"{key}/{name}" if key else str(name))


def _from_json(path: Path) -> dict[str, Any]:
    state = json.loads(path.read_text(encoding="utf-8"))
    if not is_history_state(state):
        raise ValueError(f"path: expected a file that History.save() wrote, got {path.name!r}.")
    for key, values in state["columns"].items():
        if key not in _INTEGERS | _WORDS | _OPTIONAL | {"flags"}:
            state["columns"][key] = [_nan_for_null(v) for v in values]
    for run in (state, *state.get("earlier", ())):
        limits = (run["ceilings"], *run.get("ceilings_of_data", {}).values())
        for ceiling in (one for ceilings in limits for one in ceilings.values()):
            ceiling |= {"value": _nan_for_null(ceiling["value"]), "stderr": _nan_for_null(ceiling["stderr"])}
        run["metrics"] = {
            name: {int(epoch): _nan_for_null(v) for epoch, v in values.items()}
            for name, values in run["metrics"].items()
        }
    return dict(state)


def _from_csv(path: Path) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = [field.name for field in dataclasses.fields(Row) if field.default is dataclasses.MISSING]
    missing = [key for key in needed if rows and key not in rows[0]]
    if missing:
        raise ValueError(f"path: expected the columns {list(ROW_KEYS)} in {path.name!r}, {missing} are missing.")
    columns = {key: [_parse(key, row[key]) for row in rows] for key in ROW_KEYS if not rows or key in rows[0]}
    return {"format": FORMAT, "columns": columns, "ceilings": {}, "metrics": {}}


def _parse(key: str, text: str) -> object:
    if key in _WORDS:
        return text
    if key in _INTEGERS:
        return int(text) if text or key not in _OPTIONAL else None
    if key == "flags":
        return text.split()
    if key == "reduction":
        return text or None
    return float(text) if text else None


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_for_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_null_for_nan(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # an interval that is open at the top is known to be
    return None if isinstance(value, float) and math.isnan(value) else value


def _nan_for_null(value: float | str | None) -> float:
    return math.nan if value is None else float(value)
