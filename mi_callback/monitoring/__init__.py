"""What every way in shares: sweep a model, estimate what was collected, keep the results and publish them."""

__all__: list[str] = []
