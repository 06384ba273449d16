"""Trained models in use: their files, predictions, gradients and uncertainty."""

from typing import TYPE_CHECKING, Any

from .model_file import LoadedModel, evaluate, load_model

__all__ = ["LoadedModel", "evaluate", "load_model"]

if TYPE_CHECKING:
    from .calculator import EKFCalculator as EKFCalculator
else:  # not in `__all__`: it needs ASE, and all other names can be imported without ASE

    def __getattr__(name: str) -> Any:
        if name == "EKFCalculator":
            from .calculator import EKFCalculator

            return EKFCalculator
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
