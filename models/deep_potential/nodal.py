"""The Deep Potential with its embedding nets evaluated on nodes and interpolated in between.

An embedding net is a function of one number s, and the descriptor is linear in its values. With the net evaluated on K
nodes, A_i = B_i G / N with a matrix B_i that depends on the geometry alone, so all that depends on the weights is small
dense products whose cost does not grow with the number of neighbours. Forces come back through the same B_i and the
slopes of its weights: energy, forces and weight gradients belong to one and the same function.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ekfcore._typing import Array, Namespace
from ekfcore.atoms import Frame
from ekfcore.models._network import Tape
from ekfcore.protocols import Cotangent, Prediction

from ._grouped import Grouped
from .architecture import Architecture
from .environment import Statistics
from .exact import ExactPotential
from .gradient import Gradient, check_names, combine, is_moving
from .nodal_environment import NodalEnvironment, NodalGroup, build_nodal_environment
from .nodal_kernels import NodalKernels

if TYPE_CHECKING:
    from .model import DeepPotential

__all__ = ["NodalPotential"]

_MANY = 8  # functionals that repay the preparation of `_past_descriptor`


@dataclass(slots=True, eq=False, kw_only=True)
class _Slopes:
    """Energy and its slopes for the n atoms of a group: K nodes, M channels."""

    tapes: list[list[Tape]]  # of the embedding nets, one for each type of neighbours
    G: Array  # (K, M)
    A: Array  # (n, 4, M)
    Abar: Array  # dE/dA, (n, 4, M)
    Dbar: Array  # dE/dD, (n, M, M_<)
    fitting_tapes: list[Tape]
    energies: Array  # (n, 1)
    maps: tuple[Array, Array] | None = None  # V and S of `_past_descriptor`, made when they are needed


@dataclass(frozen=True, eq=False)
class NodalPotential(Grouped):
    """A Deep Potential with a nodal embedding; a JacobianProvider whose samples are nodal environments.

    Parameters
    ----------
    exact : DeepPotential or ExactPotential
        The model whose embedding nets are interpolated.
    spacing : float
        Distance between two nodes [1/Å].
    kernels : NodalKernels
        From `find_kernels`, for the library of the weights.
    """

    exact: "DeepPotential | ExactPotential"
    spacing: float
    kernels: NodalKernels

    @property
    def architecture(self) -> Architecture:  # type: ignore[override] # of the exact model
        """Form of the model."""
        return self.exact.architecture

    @property
    def statistics(self) -> Statistics:  # type: ignore[override] # of the exact model
        """Constants of the model."""
        return self.exact.statistics

    def environment(self, frame: Frame, *, like: Array) -> NodalEnvironment:
        """Prepare a frame, see `build_nodal_environment`."""
        return build_nodal_environment(frame, self.architecture, self.statistics, self.spacing, like=like)

    def _evaluate(self, xp: Namespace, w: Array, group: NodalGroup) -> _Slopes:
        form = self.architecture
        outputs = [
            form.embedding_net.forward(xp, w[form.embedding_slice(group.type, neighbour)], nodes)
            for neighbour, nodes in enumerate(group.nodes)
        ]
        G = xp.concat([G for G, _ in outputs])
        n, _, width = group.B.shape
        # A_i = B_i G / N: one product for all atoms and all types of neighbours, whose nodes stand one after the other.
        A = xp.reshape(xp.reshape(group.B, (4 * n, width)) @ G, (n, 4, -1)) / form.n_slots
        D = self.kernels.descriptor(A, form.axis)
        energies, tapes = form.fitting_net.forward(xp, w[form.fitting_slice(group.type)], xp.reshape(D, (n, -1)))
        Dbar = xp.reshape(form.fitting_net.reverse_input(xp, tapes, xp.ones_like(energies)), D.shape)
        return _Slopes(
            tapes=[tape for _, tape in outputs],
            G=G,
            A=A,
            Abar=self.kernels.descriptor_reverse(Dbar, A),
            Dbar=Dbar,
            fitting_tapes=tapes,
            energies=energies,
        )

    def _predict(self, xp: Namespace, w: Array, sample: NodalEnvironment, slopes: Iterable[_Slopes]) -> Prediction:
        energy = xp.zeros((), dtype=w.dtype, device=w.device)
        forces = xp.zeros((sample.n_atoms, 3), dtype=w.dtype, device=w.device)
        virial = xp.zeros((3, 3), dtype=w.dtype, device=w.device)
        for group, at in zip(sample.groups, slopes, strict=True):
            C = (at.Abar / self.architecture.n_slots) @ at.G.mT  # dE/dB, from A = B G / N
            part, stress = self.kernels.forces(group, C, self.spacing, sample.n_atoms)
            energy, forces, virial = energy + xp.sum(at.energies), forces + part, virial + stress
        return {"energy": energy + sample.energy_bias, "forces": forces, "virial": virial}

    def _gradients(
        self,
        xp: Namespace,
        w: Array,
        sample: NodalEnvironment,
        slopes: Iterable[_Slopes],
        cotangents: Sequence[Cotangent],
    ) -> tuple[Array, Array]:
        check_names(cotangents)
        moving = [c for c in cotangents if is_moving(c)]
        energy = xp.zeros((), dtype=w.dtype, device=w.device)
        change = xp.zeros((len(moving),), dtype=w.dtype, device=w.device)
        energy_row = Gradient(xp, self.architecture, w, ())
        change_rows = Gradient(xp, self.architecture, w, (len(moving),))
        moves, strains = _displacements(xp, w, sample, moving)
        for group, at in zip(sample.groups, slopes, strict=True):
            energy = energy + xp.sum(at.energies)
            if any("energy" in c for c in cotangents):
                self._add_energy_gradient(xp, group, at, energy_row)
            if moving:
                Bdot = self.kernels.tangent(group, moves, strains, self.spacing)
                change = change + self._add_tangent_gradient(xp, group, at, Bdot, change_rows)
        return combine(xp, cotangents, energy + sample.energy_bias, energy_row.join(), change, change_rows.join())

    def _add_energy_gradient(self, xp: Namespace, group: NodalGroup, at: _Slopes, gradient: Gradient) -> None:
        """Add the gradient of the group's energy."""
        gradient.add_fitting(group.type, self.architecture.fitting_net.reverse_noted(xp, at.fitting_tapes))
        Gbar = _contract(xp, group.B, at.Abar / self.architecture.n_slots)
        self._add_embeddings(xp, group, at, Gbar, gradient)

    def _add_tangent_gradient(
        self, xp: Namespace, group: NodalGroup, at: _Slopes, Bdot: Array, gradient: Gradient
    ) -> Array:
        """Add the gradients of m functionals of forces and virial; return the group's part of their values, (m,)."""
        form = self.architecture
        m, n, _, width = Bdot.shape
        # The nodes do not move, so Adot = Bdot G / N.
        Adot = xp.reshape(xp.reshape(Bdot, (m * n * 4, width)) @ at.G, (m, n, 4, -1)) / form.n_slots
        Ddot = xp.reshape(self.kernels.descriptor_tangent(at.A, Adot, form.axis), (m, n, -1))
        # `_past_descriptor` goes back to z of the first layer, and would miss a residual around that layer.
        through = self._through_descriptor if m < _MANY or form.fitting_net.layers[0].copies else self._past_descriptor
        energies_dot, row, Abar = through(xp, at, Adot, Ddot)
        gradient.add_fitting(group.type, row)
        # G stands in A = B G / N and in Adot = Bdot G / N.
        Gbar = _contract(xp, group.B, Abar / form.n_slots) + _contract(xp, Bdot, at.Abar / form.n_slots)
        self._add_embeddings(xp, group, at, Gbar, gradient)
        return xp.sum(xp.reshape(energies_dot, (m, -1)), axis=-1)

    def _through_descriptor(self, xp: Namespace, at: _Slopes, Adot: Array, Ddot: Array) -> tuple[Array, Array, Array]:
        """Return changes of the atomic energies and their gradients with respect to the fitting net and to A."""
        net = self.architecture.fitting_net
        energies_dot = net.tangent(xp, at.fitting_tapes, Ddot)
        row, xbar = net.reverse_tangent_noted(xp, at.fitting_tapes)
        Dbars = xp.reshape(xbar, (Adot.shape[0], *at.Dbar.shape))
        return energies_dot, row, self.kernels.descriptor_reverse_tangent(at.Dbar, at.A, Dbars, Adot)

    def _past_descriptor(self, xp: Namespace, at: _Slopes, Adot: Array, Ddot: Array) -> tuple[Array, Array, Array]:
        """Return the same with fewer operations, as soon as many functionals share what is prepared here.

        D has several times more elements than A. V = dz/dA of the first layer takes changes of A to that layer, and
        gradients back, at once; Adot S is the gradient with respect to A of Ddot contracted with Dbar.
        """
        net, (m, n, _, M) = self.architecture.fitting_net, Adot.shape
        if at.maps is None:
            at.maps = _first_layer(xp, at), _symmetric(xp, at.Dbar)
        V, S = at.maps
        atomwise = xp.permute_dims(Adot, (1, 0, 2, 3))  # V and S belong to an atom: one product for all functionals
        zdot = xp.reshape(atomwise, (n, m, 4 * M)) @ V
        energies_dot = net.tangent(xp, at.fitting_tapes, Ddot, zdot=xp.permute_dims(zdot, (1, 0, 2)))
        row, zbar = net.reverse_tangent_noted(xp, at.fitting_tapes, through_first=False)
        Abar = xp.permute_dims(zbar, (1, 0, 2)) @ V.mT
        Abar = xp.reshape(Abar, (n, m * 4, M)) + xp.reshape(atomwise, (n, m * 4, M)) @ S
        return energies_dot, row, xp.permute_dims(xp.reshape(Abar, (n, m, 4, M)), (1, 0, 2, 3))

    def _add_embeddings(self, xp: Namespace, group: NodalGroup, at: _Slopes, Gbar: Array, gradient: Gradient) -> None:
        """Add the gradients of the embedding nets from dE/dG at the nodes, shape (..., K, M)."""
        start = 0
        for neighbour, (nodes, tape) in enumerate(zip(group.nodes, at.tapes, strict=True)):
            stop = start + nodes.shape[0]
            row = self.architecture.embedding_net.reverse(xp, tape, Gbar[..., start:stop, :])
            gradient.add_embedding(group.type, neighbour, row)
            start = stop


def _first_layer(xp: Namespace, at: _Slopes) -> Array:
    """Return the derivatives of the first layer's z of each atom with respect to A, shape (n, 4 M, width)."""
    (n, _, M), axis = at.A.shape, at.Dbar.shape[-1]
    W = xp.permute_dims(xp.reshape(at.fitting_tapes[0].W, (-1, M, axis)), (1, 2, 0))  # (M, M_<, width)
    width = W.shape[-1]
    # D_ij = sum_a A_ai A_aj, j < M_<: dz/dA_ak = sum_j W_kj A_aj (left), and for k < M_< sum_i W_ik A_ai (right) more.
    left = xp.reshape(at.A[..., :axis], (4 * n, axis)) @ xp.reshape(xp.permute_dims(W, (1, 0, 2)), (axis, -1))
    left = xp.reshape(left, (n, 4, M, width))
    right = xp.reshape(xp.reshape(at.A, (4 * n, M)) @ xp.reshape(W, (M, -1)), (n, 4, axis, width))
    V = xp.concat([left[:, :, :axis, :] + right, left[:, :, axis:, :]], axis=2)
    return xp.reshape(V, (n, 4 * M, width))


def _symmetric(xp: Namespace, Dbar: Array) -> Array:
    """Return S of each atom, shape (n, M, M): A S is the gradient with respect to A of D contracted with Dbar."""
    n, M, axis = Dbar.shape
    # With Dbar padded to (M, M), the contraction is tr(A Dbar A^T), and its gradient A (Dbar + Dbar^T).
    square = xp.concat([Dbar, xp.zeros((n, M, M - axis), dtype=Dbar.dtype, device=Dbar.device)], axis=2)
    return square + square.mT


def _contract(xp: Namespace, B: Array, Abar: Array) -> Array:
    """Return the sum over atoms of B^T Abar, shape (..., K, M)."""
    n, _, width = B.shape[-3:]
    return xp.reshape(B, (*B.shape[:-3], 4 * n, width)).mT @ xp.reshape(Abar, (*Abar.shape[:-3], 4 * n, -1))


def _displacements(
    xp: Namespace, w: Array, sample: NodalEnvironment, moving: Sequence[Cotangent]
) -> tuple[Array, Array]:
    """Return the weights of forces, shape (m, N, 3), and virial, (m, 3, 3), in the functionals; absent ones are 0."""

    def gather(name: str, shape: tuple[int, ...]) -> Array:
        zero = xp.zeros((1, *shape), dtype=w.dtype, device=w.device)
        return xp.stack([c.get(name, zero[0, ...]) for c in moving]) if moving else zero[:0, ...]

    return gather("forces", (sample.n_atoms, 3)), gather("virial", (3, 3))
