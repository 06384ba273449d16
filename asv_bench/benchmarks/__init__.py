"""Benchmarks: same seed everywhere, arrays built in ``setup``, a missing library skips by NotImplementedError there."""
