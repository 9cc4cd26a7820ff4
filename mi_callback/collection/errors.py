"""The one error of collecting: the caller asked for something that the model or its data cannot give."""

from __future__ import annotations

__all__ = ["CollectionError"]


class CollectionError(ValueError):
    """A model, loader, layer or batch that cannot be measured as asked; the message says what to change."""
