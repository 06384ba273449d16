"""What the filter trains: models that give predictions and their gradients."""

from typing import TYPE_CHECKING, Any

from ekfcore.moved import moved_names

__all__: list[str] = []

if TYPE_CHECKING:
    from .torch_module import TorchModule as TorchModule
else:  # not in `__all__`, because it needs PyTorch

    def __getattr__(name: str) -> Any:
        if name == "TorchModule":
            from .torch_module import TorchModule

            return TorchModule
        return moved_names(__name__)(name)
