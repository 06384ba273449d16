"""The Deep Potential with its embedding nets evaluated for every pair of atoms.

The energy of an atom is a network of the descriptor D = A A_<^T, where A = G^T R / N is linear in the embedding G(s)
and in the rows R of the environment matrix. A linear functional of forces or virial is the derivative of the energy
along a displacement of the atoms, so its weight gradient is one tangent pass (rows and s change, D follows) and one
reverse pass over value and tangent together. The tangent of an embedding net is its slope G'(s) times the change of s,
so that one tangent pass serves any number of functionals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from array_api_compat import array_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.atoms import Frame
from ekfcore.models._network import Tape
from ekfcore.protocols import Cotangent, Prediction

from ._grouped import Grouped
from .architecture import Architecture
from .descriptor import descriptor, descriptor_reverse, descriptor_tangent
from .displacement import collect_forces, pair_force, rows_tangent
from .embedding_kernels import Embedding, EmbeddingKernels, find_embedding
from .environment import Environment, Group, Statistics, build_environment
from .gradient import Gradient, check_names, combine, is_moving
from .surplus import evaluate_embedding

__all__ = ["ExactPotential"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Slopes:
    """Energy and its slopes for a group of n atoms: M channels, axis channels M_<."""

    embeddings: list[Embedding]  # for each type of neighbours
    A: Array  # (n, 4, M)
    Abar: Array  # dE/dA, (n, 4, M)
    Dbar: Array  # dE/dD, (n, M, M_<)
    fitting_tapes: list[Tape]
    energies: Array  # (n, 1)


@dataclass(frozen=True, eq=False)
class ExactPotential(Grouped):
    """The way that always works: one embedding for each pair of atoms.

    Parameters
    ----------
    architecture : Architecture
        Elements, cutoffs and widths.
    statistics : Statistics
        Normalisation of the environment matrix and energy bias.
    kernels : EmbeddingKernels, optional
        How the embedding nets are evaluated, for the library of the weights; the default is the fastest way.
    """

    architecture: Architecture
    statistics: Statistics
    kernels: EmbeddingKernels | None = None

    def environment(self, frame: Frame, *, like: Array) -> Environment:
        """Prepare a frame, see `build_environment`."""
        rows = self._kernels(array_namespace(like)).rows
        return build_environment(frame, self.architecture, self.statistics, like=like, rows=rows)

    def _kernels(self, xp: Namespace) -> EmbeddingKernels:
        return self.kernels or find_embedding(xp, self.architecture.activation)

    def _evaluate(self, xp: Namespace, w: Array, group: Group) -> _Slopes:
        form, kernels = self.architecture, self._kernels(xp)
        embeddings = [
            evaluate_embedding(kernels, form.embedding_net, w[form.embedding_slice(group.type, neighbour)], block)
            for neighbour, block in enumerate(group.pairs)
        ]
        # A_i = 1/N sum_j R_ij^T G(s_ij), over the neighbours of all types.
        A = sum((embedding.A for embedding in embeddings[1:]), start=embeddings[0].A) / form.n_slots
        D = descriptor(A, form.axis)
        x = xp.reshape(D, (D.shape[0], -1))
        energies, tapes = form.fitting_net.forward(xp, w[form.fitting_slice(group.type)], x)
        # Ones, because the energy is the sum of the atomic energies.
        Dbar = xp.reshape(form.fitting_net.reverse_input(xp, tapes, xp.ones_like(energies)), D.shape)
        return _Slopes(
            embeddings=embeddings,
            A=A,
            Abar=descriptor_reverse(Dbar, A),
            Dbar=Dbar,
            fitting_tapes=tapes,
            energies=energies,
        )

    def _predict(self, xp: Namespace, w: Array, sample: Environment, slopes: Iterable[_Slopes]) -> Prediction:
        energy, pair_forces = xp.zeros((), dtype=w.dtype, device=w.device), []
        virial = xp.zeros((3, 3), dtype=w.dtype, device=w.device)
        for group, at in zip(sample.groups, slopes, strict=True):
            energy = energy + xp.sum(at.energies)
            for block, embedding in zip(group.pairs, at.embeddings, strict=True):
                f = pair_force(xp, block, *embedding.slopes(at.Abar / self.architecture.n_slots))
                pair_forces.append(xp.reshape(f, (-1, 3)))
                vectors = xp.reshape(block.unit * block.distance[..., None], (-1, 3))
                virial = virial - vectors.T @ pair_forces[-1]  # W = -dE/dstrain = -sum r (dE/dr)^T
        forces = collect_forces(xp, pair_forces, sample)
        return {"energy": energy + sample.energy_bias, "forces": forces, "virial": virial}

    def _gradients(
        self, xp: Namespace, w: Array, sample: Environment, slopes: Iterable[_Slopes], cotangents: Sequence[Cotangent]
    ) -> tuple[Array, Array]:
        check_names(cotangents)
        moving = [c for c in cotangents if is_moving(c)]
        still = any("energy" in c for c in cotangents)
        energy = xp.zeros((), dtype=w.dtype, device=w.device)
        change = xp.zeros((len(moving),), dtype=w.dtype, device=w.device)
        energy_row = Gradient(xp, self.architecture, w, ())
        change_rows = Gradient(xp, self.architecture, w, (len(moving),))
        for group, at in zip(sample.groups, slopes, strict=True):
            energy = energy + xp.sum(at.energies)
            changes = [rows_tangent(xp, block, moving) for block in group.pairs]
            Abars = []
            if moving:
                part, Abar = self._tangent(xp, group, at, changes, change_rows)
                change = change + part
                Abars.append(Abar)
            if still:  # the energy comes last, for its rows of R do not change
                energy_row.add_fitting(group.type, self.architecture.fitting_net.reverse_noted(xp, at.fitting_tapes))
                Abars.append(at.Abar[None, ...])
            if Abars:
                self._add_embeddings(group, at, xp.concat(Abars), changes, energy_row, change_rows)
        return combine(xp, cotangents, energy + sample.energy_bias, energy_row.join(), change, change_rows.join())

    def _tangent(
        self, xp: Namespace, group: Group, at: _Slopes, changes: Sequence[Array], gradient: Gradient
    ) -> tuple[Array, Array]:
        """Return the group's part of m functionals of forces and virial, (m,), and their gradients in A, (m, n, 4, M).

        The gradients of the fitting net are added to `gradient`.
        """
        form, A = self.architecture, at.A
        parts = [embedding.tangent(T) for embedding, T in zip(at.embeddings, changes, strict=True)]
        # Adot_i = 1/N sum_j (Rdot^T G + R^T G' sdot), one for each functional.
        Adot = sum(parts[1:], start=parts[0]) / form.n_slots
        m, n = Adot.shape[:2]
        Ddot = xp.reshape(descriptor_tangent(A, Adot, form.axis), (m, n, -1))
        energies_dot = form.fitting_net.tangent(xp, at.fitting_tapes, Ddot)
        row, xbar = form.fitting_net.reverse_tangent_noted(xp, at.fitting_tapes)
        gradient.add_fitting(group.type, row)
        # A stands in D, through the networks, and in Ddot = Adot^T A_< + A^T Adot_<, which is linear in it.
        Abar = descriptor_reverse(xp.reshape(xbar, (m, *at.Dbar.shape)), A) + descriptor_reverse(at.Dbar, Adot)
        return xp.sum(xp.reshape(energies_dot, (m, -1)), axis=-1), Abar

    def _add_embeddings(
        self,
        group: Group,
        at: _Slopes,
        Abars: Array,
        changes: Sequence[Array],
        energy_row: Gradient,
        change_rows: Gradient,
    ) -> None:
        """Add the gradients of the embedding nets, of those functionals first for which the rows change."""
        n_slots = self.architecture.n_slots
        for neighbour, (embedding, T) in enumerate(zip(at.embeddings, changes, strict=True)):
            rows, m = embedding.gradients(at.Abar / n_slots, Abars / n_slots, T), T.shape[0]
            if m:
                change_rows.add_embedding(group.type, neighbour, rows[:m, :])
            if m < rows.shape[0]:
                energy_row.add_embedding(group.type, neighbour, rows[m, :])
