"""The filter on several processes."""
