"""PyTorch models of DeePMD-kit, with any descriptor, as models that the filter can train."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.types import atom_types
from ekfcore.errors import CheckpointError, InputError
from ekfcore.models.torch_frames import FrameModule
from ekfcore.models.torch_module import TorchModule

from ._kit import load_kit, quiet, read_torch, write_torch
from ._kit_data import Systems, box_of
from .dp_file import read_dp, write_dp

__all__ = ["DeepmdModel"]

_NAME = "DeepmdModel"
_POSITIONS = "extended_coord"  # DeePMD-kit's name for the positions of the atoms of a frame and of their images
_READERS = {".dp": read_dp, ".pth": read_torch, ".pt": read_torch}
_WRITERS = {".dp": write_dp, ".pth": write_torch}


class DeepmdModel(FrameModule):
    """An energy model of DeePMD-kit; a JacobianProvider whose samples are mappings of tensors.

    The descriptor se_e2_a is trained faster as a `DeepPotential`, which gives the same numbers. This class is for
    other descriptors: se_e2_r, se_e3, se_atten, dpa2, dpa3, hybrid. DeePMD-kit computes the model, and automatic
    differentiation the gradients. All tensors are on the device of DeePMD-kit: the first GPU, unless there is none or
    the environment has ``DEVICE=cpu``.

    Parameters
    ----------
    model : torch.nn.Module
        Result of ``deepmd.pt.model.model.get_model``.
    settings : mapping
        Section ``model`` of the input that the model was made from.

    Attributes
    ----------
    module : torch.nn.Module
        The model of DeePMD-kit.

    Raises
    ------
    InputError
        If the model does not predict an energy, or needs more than positions and elements.
    """

    def __init__(self, model: Any, settings: Mapping[str, Any]) -> None:
        kit = load_kit("deepmd.pt.model.model", _NAME)
        if not isinstance(model, kit.EnergyModel) or not model.do_grad_r("energy"):
            raise InputError(f"{_NAME} needs an energy with forces as its gradient, got {type(model).__name__}")
        if model.get_dim_fparam() or model.get_dim_aparam() or model.has_chg_spin_ebd():
            raise InputError(f"{_NAME} takes no parameters of frames or atoms; leave out numb_fparam and its like")
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and parameter.numel() > 0)  # some are empty placeholders
        self.settings = dict(settings)
        self.module = model.train()  # in training mode its forces have gradients
        super().__init__(TorchModule(_OneFrame(model), forces=_POSITIONS))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], frames: Sequence[Frame], *, seed: int = 0) -> Self:
        """Make a fresh model.

        Parameters
        ----------
        settings : mapping
            Section ``model`` of an input of DeePMD-kit, which has defaults for missing keys.
        frames : sequence of Frame
            Training frames with energies. They determine the normalisation of the descriptor, the energy of each
            element, and the number of neighbours where ``sel`` is ``"auto"``.
        seed : int
            Seed of the weights, unless the settings have one.

        Raises
        ------
        InputError
            If DeePMD-kit is not installed or refuses the settings, or a frame does not fit.
        """
        kit, argcheck = (load_kit(name, _NAME) for name in ("deepmd.pt.model.model", "deepmd.utils.argcheck"))
        with _refused():
            schema = argcheck.model_args()
            full = schema.normalize_value(copy.deepcopy(dict(settings)), trim_pattern="_*")
            schema.check_value(full, strict=True)
        if not full.get("type_map"):
            raise InputError("the section `model` needs a type_map, the elements in the order of their numbers")
        systems = Systems.of(frames, full["type_map"])
        for part in ("descriptor", "fitting_net"):
            full.setdefault(part, {}).setdefault("seed", seed)
        with _refused():
            full, _ = kit.BaseModel.update_sel(systems, full["type_map"], full)
            model = kit.get_model(copy.deepcopy(full))
        made = cls(model, full)
        with _refused():
            model.atomic_model.compute_or_load_stat(lambda: list(systems.samples(_tensor)))
        return made

    @classmethod
    def rebuild(cls, settings: Mapping[str, Any]) -> Self:
        """Make the model of complete settings; `restore` sets its constants, which are arbitrary until then."""
        kit = load_kit("deepmd.pt.model.model", _NAME)
        with _refused():
            return cls(kit.get_model(copy.deepcopy(dict(settings))), settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model of DeePMD-kit: a ``.dp``, a frozen ``.pth``, or a checkpoint ``.pt``.

        Raises
        ------
        InputError
            If the file does not exist, DeePMD-kit is not installed, or the kind of model is not supported.
        CheckpointError
            If the file is damaged.
        """
        path = Path(path)
        kit = load_kit("deepmd.pt.model.model", _NAME)
        if path.suffix not in _READERS:
            raise InputError(
                f"{path} must end in .dp, .pth or .pt; convert it with: dp convert-backend {path} model.dp"
            )
        data = _READERS[path.suffix](path)
        try:
            with quiet():
                return cls(kit.BaseModel.deserialize(data["model"]), data["model_def_script"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except Exception as error:  # DeePMD-kit raises various exceptions on a description that it cannot read
            raise CheckpointError(f"{path} cannot be rebuilt ({_reason(error)}); freeze it again") from None

    def save(self, path: str | Path) -> None:
        """Write the model for DeePMD-kit, with the weights that `store` has set.

        Parameters
        ----------
        path : path
            Ends in ``.pth``, or in ``.dp`` for DeePMD-kit's backend-neutral format.

        Raises
        ------
        InputError
            If the name has another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in _WRITERS:
            raise InputError(f"{path} must end in .dp or .pth, so that DeePMD-kit knows what it is")
        with quiet():
            data = {
                "software": "ekfcore",
                "version": version("ekfcore"),
                "backend": "PyTorch",
                "model": self.module.serialize(),
                "model_def_script": self.settings,
                "@variables": {},
            }
        _WRITERS[path.suffix](path, data)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of DeePMD-kit's numbers of types."""
        return tuple(self.module.get_type_map())

    @property
    def cutoff(self) -> float:
        """Cutoff radius [Å]."""
        return float(self.module.get_rcut())

    def environment(self, frame: Frame, *, like: Array) -> dict[str, Tensor]:
        """Prepare a frame: its atoms with their periodic images, and the neighbours of each atom.

        An atom with more neighbours than ``sel`` keeps the nearest ones, as in DeePMD-kit.

        Raises
        ------
        InputError
            If the frame has an element that the model does not have, or is periodic along some directions only; or if
            `like` does not have type and device of the weights.
        """
        weights = next(self.module.parameters())
        if not isinstance(like, Tensor) or (like.dtype, like.device) != (weights.dtype, weights.device):
            raise InputError(f"`like` must be the weights of the model or a tensor of their kind, got {type(like)}")
        box, types = box_of(frame), atom_types(frame, self.elements).astype(np.int32)
        nlist = load_kit("deepmd.pt.utils.nlist", _NAME)
        arrays = nlist.extend_input_and_build_neighbor_list(
            _tensor(frame.positions[None]),
            _tensor(types[None]),
            self.module.get_rcut(),
            self.module.get_sel(),
            mixed_types=True,  # the model sorts neighbours by element itself
            box=None if box is None else _tensor(box[None]),
        )
        return dict(zip((_POSITIONS, "extended_atype", "mapping", "nlist"), arrays, strict=True))


class _OneFrame(nn.Module):
    """Energy, forces and virial of a frame, from DeePMD-kit's forces on atoms and images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, extended_coord: Tensor, extended_atype: Tensor, mapping: Tensor, nlist: Tensor
    ) -> dict[str, Tensor]:
        found = self.model.forward_lower(extended_coord, extended_atype, nlist, mapping)  # type: ignore[operator]
        forces = found["extended_force"].new_zeros((nlist.shape[1], 3))
        return {
            "energy": found["energy"].reshape(()),
            "forces": forces.index_add(0, mapping[0], found["extended_force"][0]),
            "virial": found["virial"].reshape(3, 3),
        }


def _tensor(array: Any) -> Tensor:
    """Return a tensor on the device of DeePMD-kit."""
    return torch.as_tensor(array, device=load_kit("deepmd.pt.utils.env", _NAME).DEVICE)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _refused() -> Iterator[None]:
    """Turn errors of DeePMD-kit on settings, which are of various types, into one line."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise InputError(f"DeePMD-kit refuses the section `model`: {_reason(error)}") from None
