"""Which modules are measured: dotted names, globs and labels in, modules out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules import activation

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.positions import Choice, Positions

__all__ = ["OUTPUT", "Layer", "default_layers", "module_names", "select_layers"]

OUTPUT = "output"
"""Name of what the model itself returns; it is measured whichever layers are chosen."""

_WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"})
# MultiheadAttention lives among the activations in torch but is a layer of its own, with its own weights.
_ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__ if name != "MultiheadAttention")
_CONTAINERS = (
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)
# These bend their input by functions that are no modules.
_NONLINEAR = (nn.RNNBase, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True)
class Layer:
    """A place in the model whose values are collected.

    Attributes:
        label: name under which it is logged.
        module: the module whose output is taken; None for the model's own output.
        request: what the user wrote to get it. Every request must meet a module that fires in the forward pass; a
            request that the user did not make himself (automatic choice, model output) is None and may stay silent.
        positions: what becomes of its positions.
    """

    label: str
    module: nn.Module | None
    request: str | None
    positions: Choice = "flatten"


def module_names(model: nn.Module) -> dict[str, nn.Module]:
    """The dotted names of all modules below ``model``, without the prefixes that compiling and wrapping add.

    Args:
        model: the model; it is not named itself.

    Returns:
        Name to module, in the model's own order. A module that is registered twice has both names. Where a wrapper
        and what it wraps share a name, the inner module has it, because that is where the values appear.
    """
    names: dict[str, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        name = ".".join(part for part in path.split(".") if part not in _WRAPPERS)
        if name:
            names[name] = module
    return names


def select_layers(
    model: nn.Module, layers: Sequence[str] | Mapping[str, str] | str | None, positions: Positions = "flatten"
) -> tuple[Layer, ...]:
    """Find the modules that a user asked for, in the model's order, and the model's output.

    Args:
        model: the model.
        layers: a dotted name or glob, or several; or a mapping of such names to labels; or None for
            ``default_layers``. In a glob ``*`` stands for what is between two dots, so that "encoder.layer.*" are the
            blocks and not what is in them; ``**`` crosses dots. The name "output" is the model's own output, which is
            always measured.
        positions: what becomes of the positions of every layer, or a mapping of names, labels and globs to it, of which
            an exact name goes before a glob and a glob before a later one. Layers that it does not name are flattened.

    Returns:
        The layers, the output last.

    Raises:
        TypeError: ``layers`` is of another type.
        CollectionError: a name that the model or the choice of layers does not have, or two layers under one label.
    """
    names = module_names(model)
    if layers is None:
        labels: Mapping[str, str] = {}
        chosen: dict[str, str | None] = dict.fromkeys(default_layers(model))
    else:
        labels = _as_mapping(layers)
        chosen = _resolve(labels, names)
    selected, seen = [], set()
    choose = _Choices(positions)
    for name, module in names.items():
        if name in chosen and id(module) not in seen:  # a module under two names fires once
            seen.add(id(module))
            request = chosen[name]
            label = _label(name, request, labels)
            selected.append(Layer(label, module, request, choose(name, label)))
    output = labels.get(OUTPUT, OUTPUT)
    selected.append(Layer(output, None, OUTPUT if OUTPUT in labels else None, choose(OUTPUT, output)))
    _check_unique([layer.label for layer in selected])
    choose.check([layer.label for layer in selected])
    return tuple(selected)


class _Choices:
    """What becomes of each layer's positions, and whether all that was said of it meets a layer."""

    def __init__(self, positions: Positions) -> None:
        self._by_name: dict[str, Choice] = dict(positions) if isinstance(positions, Mapping) else {"**": positions}
        self._met = set() if isinstance(positions, Mapping) else {"**"}

    def __call__(self, name: str, label: str) -> Choice:
        met = [request for request in sorted(self._by_name, key=_is_glob) if _meets(request, name, label)]
        self._met.update(met)
        return self._by_name[met[0]] if met else "flatten"

    def check(self, labels: Sequence[str]) -> None:
        if unmet := [request for request in self._by_name if request not in self._met]:
            raise CollectionError(
                f"positions: no measured layer is {', '.join(map(repr, unmet))}. Those measured are "
                f"{', '.join(labels)}; in a glob * stays between two dots, and ** crosses them."
            )


def _meets(request: str, *names: str) -> bool:
    return any(bool(_pattern(request).fullmatch(name)) if _is_glob(request) else name == request for name in names)


def default_layers(model: nn.Module) -> list[str]:
    """The layers that are measured if the user names none.

    Every activation module, and every block that bends its input without one: recurrent and transformer layers, and
    members of a ``ModuleList``, or of a ``Sequential`` of several of their kind, that are made of layers. If there is
    none of these, as where ``forward`` calls ``F.relu``, every layer that owns parameters, norms apart.

    Args:
        model: the model.

    Returns:
        Dotted names in the model's order.
    """
    names = module_names(model)
    activations = {name for name, module in names.items() if isinstance(module, _ACTIVATIONS)}
    parts = _parts(model)
    blocks = {
        name
        for name, is_block in parts.items()
        if is_block and not any(other.startswith(f"{name}.") for other in activations)
    }
    chosen = activations | blocks or set(parts)
    return [name for name in names if name in chosen]


def _parts(model: nn.Module) -> dict[str, bool]:
    """Names of the layers and blocks that own parameters, none within another, and whether each is a block."""
    found: dict[str, bool] = {}

    def visit(path: str, parent: nn.Module) -> None:
        children = {name: child for name, child in parent.named_children() if name != "parametrizations"}
        for name, child in children.items():
            if isinstance(child, _NORMS) or next(child.parameters(), None) is None:
                continue
            below = path if name in _WRAPPERS else f"{path}.{name}".lstrip(".")
            has_layers = any(next(part.parameters(), None) is not None for part in child.children())
            alike = sum(type(other) is type(child) for other in children.values())
            is_member = isinstance(parent, nn.ModuleList | nn.ModuleDict) or (
                isinstance(parent, nn.Sequential) and alike > 1
            )
            is_block = has_layers and is_member and type(child) not in _CONTAINERS
            if is_block or isinstance(child, _NONLINEAR):
                found[below] = True
            elif not has_layers or _is_of_torch(child):
                found[below] = False
            else:
                visit(below, child)

    visit("", model)
    return found


def _is_of_torch(module: nn.Module) -> bool:
    """Whether a module is one of torch's own layers, however it is made inside."""
    own = next(cls for cls in type(module).__mro__ if cls.__module__.startswith("torch.nn"))
    return own is not nn.Module and own not in _CONTAINERS


def _as_mapping(layers: Sequence[str] | Mapping[str, str] | str) -> Mapping[str, str]:
    """Names and globs to labels; a name given without a label is its own."""
    if isinstance(layers, str):
        layers = [layers]
    if not isinstance(layers, Mapping | Sequence):
        raise TypeError(
            f"layers={layers!r}: expected a name or glob, a list of them, a dict of names to labels, or None."
        )
    mapping = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    for name, label in mapping.items():
        if not isinstance(name, str) or not isinstance(label, str) or not name or not label:
            raise TypeError(f"layers: expected non-empty names and labels as strings, got {name!r}: {label!r}.")
    return mapping


def _resolve(requests: Mapping[str, str], names: Mapping[str, nn.Module]) -> dict[str, str | None]:
    """Module names that the requests meet, each with the request; an exact name goes before a glob."""
    chosen: dict[str, str | None] = {}
    for request in sorted(requests, key=_is_glob):
        if request == OUTPUT:
            continue
        met = [name for name in names if _pattern(request).fullmatch(name)] if _is_glob(request) else [request]
        if not met or met[0] not in names:
            raise CollectionError(_unknown(request, list(names)))
        for name in met:
            chosen.setdefault(name, request)
    return chosen


def _pattern(glob: str) -> re.Pattern[str]:
    """A glob whose ``*`` and ``?`` stay between two dots and whose ``**`` crosses them; ``**.`` may be nothing."""
    parts = (".*".join(map(_translated, part.split("**"))) for part in glob.split("**."))
    return re.compile(r"(?:.*\.)?".join(parts))


def _translated(glob: str) -> str:
    """As a regular expression, of a glob without ``**``."""
    inner = []
    for part in re.split(r"(\[!?\]?[^\]]*\]|\*|\?)", glob):
        if part == "*":
            inner.append("[^.]*")
        elif part == "?":
            inner.append("[^.]")
        elif part.startswith("[") and len(part) > 2:
            inner.append(f"[^{part[2:]}" if part[1] == "!" else part)
        else:
            inner.append(re.escape(part))
    return "".join(inner)


def _is_glob(name: str) -> bool:
    return any(character in name for character in "*?[")


def _label(name: str, request: str | None, labels: Mapping[str, str]) -> str:
    """What a module is logged as: its label, or its name, out of the way of the model's output."""
    if request is not None and not _is_glob(request):
        name = labels[request]
    elif request is not None and labels[request] != request:
        name = f"{labels[request]}.{name}"  # one label for a glob: it becomes a prefix
    return f"{name}_module" if name == OUTPUT else name


def _unknown(request: str, names: list[str]) -> str:
    close = difflib.get_close_matches(request, names, n=3)
    shown = ", ".join(names[:60]) + (f", ... ({len(names)} in all)" if len(names) > 60 else "")
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    if not hint and _is_glob(request) and any(map(_pattern(re.sub("[*]+", "**", request)).fullmatch, names)):
        hint = f" A * stays between two dots; did you mean {re.sub('[*]+', '**', request)!r}?"
    return f"layers: the model has no module {request!r}.{hint} It has: {shown or 'no modules at all'}; and {OUTPUT!r}."


def _check_unique(labels: list[str]) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise CollectionError(
            f"layers: expected one label a layer, got {', '.join(twice)} more than once. Give each its own label."
        )
