"""Models and inputs of DeePMD-kit."""

from .exchange import export_model, import_model

__all__ = ["export_model", "import_model"]
