"""Labelled atomic configurations, and checks before anything is computed from them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._extra import load_extra
from ._given import arrays_of, constraints_of, info_of
from ._labels import Labels, labels_of

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Frame", "check_cell", "check_labelled", "validate_frame"]

_MIN_WIDTH = 0.1  # [Å] no atom can be that close to its own periodic image
_MAX_NUMBER = 118  # oganesson
_EXTXYZ = {"energy": "energy=...", "forces": "the column forces", "virial": 'virial="..." or stress="..."'}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Frame:
    """Atoms in a cell, with the labels that a model is trained on.

    Parameters
    ----------
    numbers : array, shape (N,)
        Atomic numbers.
    positions : array, shape (N, 3)
        Cartesian positions, inside the cell or not [Å].
    cell : array, shape (3, 3)
        Lattice vectors, one a row; zeros for an isolated molecule [Å].
    pbc : array, shape (3,)
        Whether the frame is periodic along each lattice vector.
    energy : float, optional
        Potential energy of the frame [eV].
    forces : array, shape (N, 3), optional
        Minus the gradient of the energy [eV/Å].
    virial : array, shape (3, 3), optional
        Minus the derivative of the energy with respect to strain, W = -dE/dε: minus the volume times ASE's stress [eV].
    weight : float
        Weight in a training: the frame counts as much as `weight` such frames, so that the noise of its labels is
        1/sqrt(weight) times that of the others.
    arrays : mapping of str to array
        Inputs of a calculation for each atom, by the names of ASE: ``initial_charges`` [e], ``initial_magmoms``,
        ``tags`` and ``masses`` [u]; without arrays of zeros and standard masses.
    info : mapping of str to float
        Inputs of a calculation for all atoms together, as ``charge`` [e] or ``spin``.
    constraints : tuple
        Constraints of ASE on the motion of the atoms.
    source : str
        Origin of the frame, e.g. ``"Cu/train.xyz.xz, frame 12"``, counted from 0; every message begins with it.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    virial: NDArray[np.float64] | None = None
    weight: float = 1.0
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    info: Mapping[str, float] = field(default_factory=dict)
    constraints: tuple[Any, ...] = ()
    source: str

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbol of each atom."""
        names = load_extra("ase.data").chemical_symbols
        return [names[number] for number in self.numbers]

    @classmethod
    def from_ase(cls, atoms: "Atoms", source: str, *, labels: Labels | None = None) -> "Frame":
        """Take a configuration and its labels from ASE; nothing is calculated and nothing validated.

        Labels are the results of the calculator, else ``energy``, ``forces`` or ``force``, ``virial`` or ``stress``
        in ``info`` and ``arrays``, else values under unambiguous names like ``REF_energy`` or ``virials``. A free
        energy takes precedence over the energy, because the forces belong to it.

        Parameters
        ----------
        atoms : ase.Atoms
            The configuration.
        source : str
            Origin of the configuration.
        labels : Labels, optional
            Its labels, if they are known already.

        Returns
        -------
        Frame
            A copy in double precision.

        Raises
        ------
        InputError
            If a label is not a number, or two names of it are possible.
        """
        labels = labels or labels_of(atoms, source)
        return cls(
            numbers=np.array(atoms.numbers, dtype=np.int64),
            positions=np.array(atoms.positions, dtype=np.float64) * labels.length,
            cell=np.array(atoms.cell, dtype=np.float64) * labels.length,
            pbc=np.array(atoms.pbc, dtype=np.bool_),
            energy=labels.energy,
            forces=labels.forces,
            virial=labels.virial,
            weight=labels.weight,
            arrays=arrays_of(atoms),
            info=info_of(atoms),
            constraints=constraints_of(atoms),
            source=source,
        )

    def to_ase(self) -> "Atoms":
        """Return the configuration as ASE's Atoms.

        Returns
        -------
        ase.Atoms
            A copy whose calculator holds the labels of the frame. The virial becomes a stress; if the cell has no
            volume, it becomes ``info["virial"]`` [eV]. A weight other than 1 is ``info["weight"]``.
        """
        atoms: Atoms = load_extra("ase").Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc)
        for name, values in self.arrays.items():
            atoms.set_array(name, values)  # type: ignore[no-untyped-call]
        atoms.set_constraint(self.constraints)  # type: ignore[no-untyped-call]
        atoms.info.update(self.info)
        if self.weight != 1:
            atoms.info["weight"] = self.weight
        stress, volume = None, abs(np.linalg.det(self.cell))
        if self.virial is not None and volume > 0:
            xx, xy, xz, _, yy, yz, _, _, zz = -self.virial.ravel() / volume
            stress = [xx, yy, zz, yz, xz, xy]
        elif self.virial is not None:
            atoms.info["virial"] = self.virial.copy()
        singlepoint = load_extra("ase.calculators.singlepoint")
        atoms.calc = singlepoint.SinglePointCalculator(atoms, energy=self.energy, forces=self.forces, stress=stress)
        return atoms


def validate_frame(frame: Frame, *, require: Collection[str] = ("energy", "forces")) -> None:
    """Refuse a frame that cannot be used for training or evaluation.

    Overlapping atoms are not checked here, but in `neighbour_pairs`, which computes the distances anyway.

    Parameters
    ----------
    frame : Frame
        Frame to check.
    require : collection of str
        Required labels: any of ``"energy"``, ``"forces"`` and ``"virial"``.

    Raises
    ------
    InputError
        One line that begins with the source of the frame.
    """
    if np.ndim(frame.numbers) != 1 or len(frame.numbers) == 0:
        shape = np.shape(frame.numbers)
        raise InputError(f"{frame.source}: a frame must hold at least one atom, got numbers of shape {shape}")
    _check_array(frame, "positions", (frame.n_atoms, 3))
    _check_array(frame, "cell", (3, 3))
    if np.shape(frame.pbc) != (3,):
        raise InputError(f"{frame.source}: pbc must have shape (3,), got {np.shape(frame.pbc)}")
    unknown = (frame.numbers < 1) | (frame.numbers > _MAX_NUMBER)
    if unknown.any():
        atom = int(unknown.argmax())
        raise InputError(
            f"{frame.source}: atom {atom} must be an element, atomic number 1 to {_MAX_NUMBER}, "
            f"got {frame.numbers[atom]}; correct its symbol"
        )
    check_cell(frame)
    for name, shape in {"energy": (), "forces": (frame.n_atoms, 3), "virial": (3, 3)}.items():
        if getattr(frame, name) is not None:
            _check_array(frame, name, shape)
        elif name in require:
            raise InputError(f"{frame.source}: has no {name}; add it (in extended XYZ: {_EXTXYZ[name]})")
    for name, value in {**frame.arrays, **frame.info}.items():  # inputs of a calculation
        if not np.all(np.isfinite(np.asarray(value))):
            raise InputError(f"{frame.source}: {name} must be finite, got {value}; leave this frame out")


def check_labelled(frame: Frame) -> None:
    """Refuse a frame without any label.

    Raises
    ------
    InputError
        One line that begins with the source of the frame.
    """
    if frame.energy is None and frame.forces is None and frame.virial is None:
        advice = ", ".join(_EXTXYZ.values())
        raise InputError(f"{frame.source}: has no energy, forces or virial; add them (in extended XYZ: {advice})")


def check_cell(frame: Frame) -> None:
    """Refuse a periodic cell without volume.

    Parameters
    ----------
    frame : Frame
        Frame to check; if it is not periodic, any cell is valid.

    Raises
    ------
    InputError
        If opposite faces of a periodic cell are closer than 0.1 Å.
    """
    if not np.any(frame.pbc):
        return
    volume = abs(np.linalg.det(frame.cell))
    faces = np.linalg.norm(np.cross(frame.cell[[1, 2, 0]], frame.cell[[2, 0, 1]]), axis=1)
    # The width is volume / face; the product form of the test also works for a face of area 0.
    if np.any(volume <= _MIN_WIDTH * faces):
        raise InputError(
            f"{frame.source}: a periodic cell must span a volume, got {volume:.3g} Å^3 with faces closer than "
            f"{_MIN_WIDTH} Å; give three independent lattice vectors, or pbc F F F for a molecule"
        )


def _check_array(frame: Frame, name: str, shape: tuple[int, ...]) -> None:
    """Check shape and finiteness of one field."""
    array = np.asarray(getattr(frame, name))
    if array.shape != shape:
        raise InputError(f"{frame.source}: {name} must have shape {shape}, got {array.shape}")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        where = f" of atom {wrong[0, 0]}" if name in ("positions", "forces") else ""
        raise InputError(
            f"{frame.source}: {name}{where} must be finite, got {array[tuple(wrong[0])]}; leave this frame out"
        )
