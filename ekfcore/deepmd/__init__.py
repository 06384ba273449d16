"""Models and inputs of DeePMD-kit."""

from .exchange import export_model, import_model
from .input_file import load_input

__all__ = ["export_model", "import_model", "load_input"]
