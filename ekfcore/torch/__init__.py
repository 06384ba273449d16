"""The filter as an optimizer of PyTorch."""
