"""Import of DeePMD-kit, and the files that only DeePMD-kit can write and read."""

import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ekfcore.errors import CheckpointError, InputError

__all__ = ["load_kit", "quiet", "read_torch", "write_torch"]


def write_torch(path: Path, data: dict[str, Any]) -> None:
    """Write a ``.pth``, the file of DeePMD-kit's PyTorch backend, atomically.

    Parameters
    ----------
    path : Path
        File to write or to replace.
    data : dict
        Contents of a ``.dp``.

    Raises
    ------
    InputError
        If DeePMD-kit is not installed, or the file cannot be written.
    """
    converter = _load_converter(path)
    try:
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder, quiet():
            made = Path(folder) / "model.pth"
            converter.deserialize_to_file(str(made), data)
            os.replace(made, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another place") from None


def read_torch(path: Path) -> dict[str, Any]:
    """Return a frozen model ``.pth`` or a checkpoint ``.pt`` as the contents of a ``.dp``.

    Raises
    ------
    InputError
        If the file does not exist or DeePMD-kit is not installed.
    CheckpointError
        If DeePMD-kit cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give a model of DeePMD-kit that ends in .dp, .pth or .pt")
    converter = _load_converter(path)
    try:
        with quiet():
            data: dict[str, Any] = converter.serialize_from_file(str(path))
    except Exception as error:  # torch raises many kinds of exceptions on a broken file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is damaged or no model of DeePMD-kit's PyTorch backend ({reason}); copy or freeze it again"
        ) from None
    return data


def load_kit(module: str, needed_by: object, *, otherwise: str = "") -> Any:
    """Return a module of DeePMD-kit.

    Parameters
    ----------
    module : str
        Its name.
    needed_by : object
        What needs the module, for the message.
    otherwise : str
        Other advice if DeePMD-kit is missing.

    Raises
    ------
    InputError
        If DeePMD-kit or a package that it imports is not installed.
    """
    try:
        with quiet():
            _without_foreign_library()
            return importlib.import_module(module)
    except ImportError as error:
        package = "DeePMD-kit" if (error.name or "").startswith("deepmd") else error.name or "DeePMD-kit"
        raise InputError(
            f'{needed_by} needs {package}, which is not installed; run: pip install "ekfcore[deepmd]"{otherwise}'
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what torch and DeePMD-kit warn of and advise: deprecated features, threads, missing packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _load_converter(path: Path) -> Any:
    return load_kit("deepmd.pt.utils.serialization", path, otherwise=", or use a .dp")


def _without_foreign_library() -> None:
    """Keep DeePMD-kit from loading a C++ library that was built for another version of torch.

    DeePMD-kit refuses to start with such a library, although training and evaluation in Python do not need it. If the
    library is not found, DeePMD-kit starts without it.
    """
    env: Any = importlib.import_module("deepmd.env")
    torch = importlib.import_module("torch")
    if torch.__version__.partition("+")[0] != env.GLOBAL_CONFIG.get("pt_version"):
        env.SHARED_LIB_DIR = Path(os.devnull)
        env.GLOBAL_CONFIG["cibuildwheel"] = "0"
