"""What the filter trains: models that give predictions and their gradients."""

from typing import TYPE_CHECKING, Any

__all__: list[str] = []

if TYPE_CHECKING:
    from .deepmd_model import DeepmdModel as DeepmdModel
    from .torch_module import TorchModule as TorchModule
else:  # not in `__all__`, because they need PyTorch

    def __getattr__(name: str) -> Any:
        if name == "TorchModule":
            from .torch_module import TorchModule

            return TorchModule
        if name == "DeepmdModel":
            from .deepmd_model import DeepmdModel

            return DeepmdModel
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
