"""``python -m ekfcore``, and ``torchrun -m ekfcore``."""

import sys

from ekfcore.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
