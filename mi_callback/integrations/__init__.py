"""Callbacks for the trainers of other packages, one file each, named after the package that it needs."""

__all__: list[str] = []
