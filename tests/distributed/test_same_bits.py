"""The number of ranks changes no bit of a training."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from .conftest import HERE, RunRanks  # noqa: F401
