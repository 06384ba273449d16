"""What it costs to have the package at all."""

__all__ = ["timeraw_import", "timeraw_import_command_line"]

rounds = 1
repeat = (3, 10, 2.0)


def timeraw_import() -> str:
    """Time `import ekfcore` in a fresh interpreter."""
    return "import ekfcore"


def timeraw_import_command_line() -> str:
    """Time what every command of the command line imports."""
    return "import ekfcore.cli"
