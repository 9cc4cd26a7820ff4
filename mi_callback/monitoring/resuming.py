"""What a monitor keeps in a checkpoint, and the warning when another monitor than the one that wrote it resumes."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mi_callback.monitoring.telling import warn

__all__ = ["Arguments", "state_to_resume"]

Arguments = Mapping[str, str]
"""Arguments of a monitor by name, as ``repr`` shows them: plain values whatever the arguments are."""

_PRECISION = {"n_points"}  # arguments that change error bars and nothing else


@dataclass(frozen=True, slots=True)
class _Stored:
    """A monitor's state in a checkpoint, and the arguments that it was written with."""

    state: Mapping[str, Any]
    arguments: Arguments

    def differences(self, own: Arguments, defaults: Arguments, names: Collection[str]) -> list[str]:
        """Those of the arguments that differ; one that a version did not have yet has its default."""
        return [
            name
            for name in names
            if (then := self.arguments.get(name, defaults.get(name))) != own.get(name, defaults.get(name))
            and then is not None
        ]


def state_to_resume(
    states: Mapping[Any, Any],
    *,
    class_name: str,
    key: str,
    taken: Collection[str],
    own: Arguments,
    defaults: Arguments,
    identity: Collection[str],
) -> Mapping[str, Any] | None:
    """The state that a monitor goes on with; a warning says what other arguments mean for the curves.

    Args:
        states: what the checkpoint holds of callbacks, by state key.
        class_name: name of the monitor's class, with which its state keys begin.
        key: the monitor's state key.
        taken: state keys of other monitors.
        own: the monitor's arguments.
        defaults: what arguments are if they are not given.
        identity: names of the arguments that curves of one history must share.

    Returns:
        The state, or None if there is none that was measured in the same way.
    """
    found = list(_stored({k: v for k, v in states.items() if k not in taken}, class_name, key))
    if not found:
        return None
    nearest = min(found, key=lambda one: len(one.differences(own, defaults, identity)))
    changed = nearest.differences(own, defaults, identity)
    if changed:
        warn(
            f"The checkpoint's mutual information was measured with {_shown(changed, nearest.arguments, defaults)}, "
            f"and is now measured with {_shown(changed, own, defaults)}. The two are not comparable: what the "
            "checkpoint holds is left out, and the history begins where training resumes. Give the same arguments to "
            "continue the curves; History.load reads those in the checkpoint.",
        )
        return None
    others = [n for n in own if n not in identity and n in nearest.arguments]
    for names, means in (
        ([n for n in others if n not in _PRECISION], "Values before and after are not comparable."),
        ([n for n in others if n in _PRECISION], "Error bars before and after differ; the values are comparable."),
    ):
        changed = nearest.differences(own, defaults, names)
        if changed:
            warn(
                f"Mutual information was measured with {_shown(changed, nearest.arguments, defaults)} before the "
                f"checkpoint, and is now measured with {_shown(changed, own, defaults)}. {means}",
            )
    return nearest.state


def _stored(states: Mapping[Any, Any], class_name: str, own_key: str) -> Iterator[_Stored]:
    for key, state in states.items():
        if not (isinstance(key, str) and key.startswith(class_name + "{") and isinstance(state, Mapping)):
            continue
        if "history" not in state:
            continue
        try:
            in_key = ast.literal_eval(key.removeprefix(class_name))
        except (ValueError, SyntaxError):  # an argument that cannot be read back from its repr
            if key != own_key:
                continue
            in_key = {}
        arguments = {name: repr(value) for name, value in in_key.items()} | dict(state.get("arguments", {}))
        yield _Stored(state, arguments)


def _shown(names: Collection[str], arguments: Arguments, defaults: Arguments) -> str:
    return ", ".join(f"{name}={arguments.get(name, defaults.get(name))}" for name in names)
