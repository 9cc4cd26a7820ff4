"""One measurement from start to end: a sweep, its estimates, where they go, what it costs, and what failed in it."""

__all__: list[str] = []
