"""What it costs to have the package at all."""

__all__ = ["timeraw_import"]


def timeraw_import() -> str:
    """Time `import ekfcore` in a fresh interpreter."""
    return "import ekfcore"
