"""The Deep Potential with its weight gradients in closed form.

The energy of an atom is a network of the descriptor D = A A_<^T, where A = G^T R / N is linear in the embedding G(s)
and in the rows R of the environment matrix. A linear functional of forces or virial is the derivative of the energy
along a displacement of the atoms, so its weight gradient is one tangent pass (rows and s change, D follows) and one
reverse pass over value and tangent together. The tangent of an embedding net is its slope G'(s) times the change of s,
so that one tangent pass serves any number of functionals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from array_api_compat import array_namespace
from ekfcore.models._network import Tape

from ekfcore._typing import Array, Namespace
from ekfcore.atoms import Frame
from ekfcore.protocols import Cotangent, Prediction

from .architecture import Architecture
from .descriptor import descriptor, descriptor_reverse, descriptor_tangent
from .displacement import collect_forces, pair_force, rows_tangent
from .environment import Environment, Group, Statistics, build_environment
from .gradient import Gradient, check_names, combine, is_moving

__all__ = ["DeepPotential"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Slopes:
    """Energy and its slopes for a group of n atoms: T types of neighbours, M channels, axis channels M_<."""

    tapes: list[list[Tape]]  # of the embedding nets, one for each type of neighbours
    G: list[Array]  # T arrays (n, capacity, M)
    slopes: list[Array]  # dG/ds, like G
    Gbar: list[Array]  # dE/dG, like G
    A: Array  # (n, 4, M)
    Abar: Array  # dE/dA, (n, 4, M)
    Dbar: Array  # dE/dD, (n, M, M_<)
    fitting_tapes: list[Tape]
    energies: Array  # (n, 1)


@dataclass(frozen=True, eq=False)
class DeepPotential:
    """A Deep Potential with the se_e2_a descriptor; a JacobianProvider whose samples are environments.

    Parameters
    ----------
    architecture : Architecture
        Elements, cutoffs and widths.
    statistics : Statistics
        Normalisation of the environment matrix and energy bias.

    References
    ----------
    Hu et al., RLEKF, arXiv 2212.06989, "Problem Setup"; descriptor and conventions of DeePMD-kit's se_e2_a.
    """

    architecture: Architecture
    statistics: Statistics

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts in order."""
        return self.architecture.layer_sizes

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(self.layer_sizes)

    def environment(self, frame: Frame, *, like: Array) -> Environment:
        """Prepare a frame, see `build_environment`."""
        return build_environment(frame, self.architecture, self.statistics, like=like)

    def predict(self, w: Array, sample: Environment) -> Prediction:
        """Return energy, forces and virial of a frame.

        Parameters
        ----------
        w : array, shape (n,)
            Weights.
        sample : Environment
            The prepared frame of N atoms.

        Returns
        -------
        dict
            ``energy``, 0-d [eV]; ``forces``, shape (N, 3) [eV/Å]; ``virial``, shape (3, 3), W = -dE/dstrain [eV].
        """
        xp = array_namespace(w)
        energy, pair_forces = xp.zeros((), dtype=w.dtype, device=w.device), []
        virial = xp.zeros((3, 3), dtype=w.dtype, device=w.device)
        for group in sample.groups:
            at = self._evaluate(xp, w, group)
            energy = energy + xp.sum(at.energies)
            for block, G, slope, Gbar in zip(group.pairs, at.G, at.slopes, at.Gbar, strict=True):
                f = pair_force(xp, block, G @ (at.Abar.mT / self.architecture.n_slots), xp.sum(Gbar * slope, axis=-1))
                pair_forces.append(xp.reshape(f, (-1, 3)))
                vectors = xp.reshape(block.unit * block.distance[..., None], (-1, 3))
                virial = virial - vectors.T @ pair_forces[-1]
        forces = collect_forces(xp, pair_forces, sample)
        return {"energy": energy + sample.energy_bias, "forces": forces, "virial": virial}

    def jacobian(self, w: Array, sample: Environment, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return m linear functionals of a prediction and their gradients.

        Parameters
        ----------
        w : array, shape (n,)
            Weights.
        sample : Environment
            The prepared frame of N atoms.
        cotangents : sequence of m mappings
            Weights of ``energy`` (0-d), ``forces`` (N, 3) and ``virial`` (3, 3) in each functional; absent means zero.

        Returns
        -------
        values : array, shape (m,)
            The functionals.
        H : array, shape (m, n)
            Their gradients with respect to the weights.

        Raises
        ------
        InputError
            If a functional names something else.
        """
        xp = array_namespace(w)
        check_names(cotangents)
        moving = [c for c in cotangents if is_moving(c)]
        still = any("energy" in c for c in cotangents)
        energy = xp.zeros((), dtype=w.dtype, device=w.device)
        change = xp.zeros((len(moving),), dtype=w.dtype, device=w.device)
        energy_row = Gradient(xp, self.architecture, w, ())
        change_rows = Gradient(xp, self.architecture, w, (len(moving),))
        for group in sample.groups:
            at = self._evaluate(xp, w, group)
            energy = energy + xp.sum(at.energies)
            if still:
                self._add_energy_gradient(xp, group, at, energy_row)
            if moving:
                change = change + self._add_tangent_gradient(xp, group, at, moving, change_rows)
        return combine(xp, cotangents, energy + sample.energy_bias, energy_row.join(), change, change_rows.join())

    def _evaluate(self, xp: Namespace, w: Array, group: Group) -> _Slopes:
        """Evaluate the atomic energies of a group and all slopes that forces and gradients need."""
        embedding, fitting = self.architecture.embedding_net, self.architecture.fitting_net
        n, tapes, Gs, slopes = group.pairs[0].rows.shape[0], [], [], []
        A: Array = 0.0
        for neighbour, block in enumerate(group.pairs):
            s = xp.reshape(block.rows[:, :, 0], (-1, 1))
            G, tape = embedding.forward(xp, w[self.architecture.embedding_slice(group.type, neighbour)], s)
            slope = embedding.tangent(xp, tape, xp.ones_like(s))
            shape = (n, block.rows.shape[1], G.shape[-1])
            tapes.append(tape)
            Gs.append(xp.reshape(G, shape))
            slopes.append(xp.reshape(slope, shape))
            A = A + block.rows.mT @ Gs[-1]
        A = A / self.architecture.n_slots
        D = descriptor(A, self.architecture.axis)
        energies, fitting_tapes = fitting.forward(
            xp, w[self.architecture.fitting_slice(group.type)], xp.reshape(D, (n, -1))
        )
        Dbar = xp.reshape(fitting.reverse_input(xp, fitting_tapes, xp.ones_like(energies)), D.shape)
        Abar = descriptor_reverse(Dbar, A)
        return _Slopes(
            tapes=tapes,
            G=Gs,
            slopes=slopes,
            Gbar=[block.rows @ (Abar / self.architecture.n_slots) for block in group.pairs],
            A=A,
            Abar=Abar,
            Dbar=Dbar,
            fitting_tapes=fitting_tapes,
            energies=energies,
        )

    def _add_energy_gradient(self, xp: Namespace, group: Group, at: _Slopes, gradient: Gradient) -> None:
        """Add the gradient of the group's energy."""
        embedding, fitting = self.architecture.embedding_net, self.architecture.fitting_net
        gradient.add_fitting(group.type, fitting.reverse_noted(xp, at.fitting_tapes))
        for neighbour, (tape, Gbar) in enumerate(zip(at.tapes, at.Gbar, strict=True)):
            row = embedding.reverse(xp, tape, xp.reshape(Gbar, (-1, Gbar.shape[-1])))
            gradient.add_embedding(group.type, neighbour, row)

    def _add_tangent_gradient(
        self, xp: Namespace, group: Group, at: _Slopes, moving: Sequence[Cotangent], gradient: Gradient
    ) -> Array:
        """Add the gradients of m functionals of forces and virial; return the group's part of their values, (m,)."""
        embedding, fitting = self.architecture.embedding_net, self.architecture.fitting_net
        A, axis, m = at.A, self.architecture.axis, len(moving)
        changes = [rows_tangent(xp, block, moving) for block in group.pairs]
        Adot: Array = 0.0
        for block, G, slope, T in zip(group.pairs, at.G, at.slopes, changes, strict=True):
            Adot = Adot + T.mT @ G + block.rows.mT @ (slope * T[..., :1])
        Adot = Adot / self.architecture.n_slots
        Ddot = descriptor_tangent(A, Adot, axis)
        energies_dot = fitting.tangent(xp, at.fitting_tapes, xp.reshape(Ddot, (m, A.shape[0], -1)))
        row, xbar = fitting.reverse_tangent_noted(xp, at.fitting_tapes)
        gradient.add_fitting(group.type, row)
        Abar = descriptor_reverse(xp.reshape(xbar, (m, *at.Dbar.shape)), A)
        Abar = (Abar + descriptor_reverse(at.Dbar, Adot)) / self.architecture.n_slots
        Adot_bar = at.Abar / self.architecture.n_slots
        for neighbour, (block, tape, Gbar, T) in enumerate(zip(group.pairs, at.tapes, at.Gbar, changes, strict=True)):
            shape = (m, -1, Gbar.shape[-1])
            G_bar = xp.reshape(block.rows @ Abar + T @ Adot_bar, shape)
            slope_bar = xp.reshape(T[..., :1] * Gbar, shape)
            row, _ = embedding.reverse_tangent(xp, tape, G_bar, slope_bar)
            gradient.add_embedding(group.type, neighbour, row)
        return xp.sum(xp.reshape(energies_dot, (m, -1)), axis=-1)
