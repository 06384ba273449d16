"""Conversion of a serialised model of DeePMD-kit to a `DeepPotential`, for the descriptor that both support."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import CheckpointError, InputError
from ekfcore.models._network import NetworkShape
from ekfcore.models.deep_potential import Architecture, DeepPotential, Statistics

from .room import NOBODY

__all__ = ["rebuild"]

_Vector = NDArray[np.float64]

# Supported values of settings beside the architecture. Types come first, as they make the clearest error messages.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "type": ("standard",),
    "descriptor.type": ("se_e2_a", "se_a"),
    "fitting.type": ("ener",),
    "atom_exclude_types": ([], None),
    "pair_exclude_types": ([], None),
    "descriptor.resnet_dt": (False,),
    "descriptor.exclude_types": ([], None),
    "descriptor.env_protection": (0, None),
    "descriptor.env_mat.use_exp_switch": (False, None),
    "descriptor.spin": (None,),
    "descriptor.precision": ("float64", "float32", "default"),
    "fitting.precision": ("float64", "float32", "default"),
    "fitting.mixed_types": (False,),
    "fitting.numb_fparam": (0,),
    "fitting.numb_aparam": (0,),
    "fitting.dim_case_embd": (0, None),
    "fitting.exclude_types": ([], None),
    "fitting.use_aparam_as_mask": (False, None),
    "fitting.spin": (None,),
}


def rebuild(data: Mapping[str, Any], source: str) -> tuple[DeepPotential, _Vector]:
    """Return the model and weights of a serialised model of DeePMD-kit.

    Parameters
    ----------
    data : mapping
        Serialised model, as `describe` returns it.
    source : str
        Name of the file in messages.

    Returns
    -------
    model : DeepPotential
        Form and constants.
    weights : array, shape (n,)
        Weights, in double precision for every precision of the model.

    Raises
    ------
    InputError
        If the kind of model is not supported; the message names it.
    CheckpointError
        If the description is incomplete.
    """
    _check_kind(data, source)
    try:
        architecture = _architecture(data, source)
        model = DeepPotential(architecture, _statistics(data, architecture, source))
        weights = np.concatenate(list(_weights(data, architecture, source)))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{source} lacks what a model must say ({error!r}); freeze it again") from None
    _check_finite(source, weights, model.statistics)
    return model, weights


def _check_kind(data: Mapping[str, Any], source: str) -> None:
    for path, allowed in _SUPPORTED.items():
        value = _lookup(data, path)
        if value not in allowed:
            raise InputError(
                f"{source}: a model with {path} = {value!r} is not supported, only {allowed[0]!r}; "
                "ekfcore knows the descriptor se_e2_a with a fitting net for the energy"
            )
    atom_ener = _lookup(data, "fitting.atom_ener") or []
    if any(energy is not None for energy in atom_ener):
        raise InputError(f"{source}: a model with fitting.atom_ener = {atom_ener} is not supported, only without")


def _lookup(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data.tolist() if isinstance(data, np.ndarray) else data


def _architecture(data: Mapping[str, Any], source: str) -> Architecture:
    descriptor, fitting = data["descriptor"], data["fitting"]
    names = {net["activation_function"] for net in (descriptor, fitting)}
    if len(names) > 1:
        raise InputError(
            f"{source}: a model with two activations, {', '.join(sorted(names))}, is not supported; "
            "ekfcore has one for both networks"
        )
    return Architecture(
        elements=tuple(data["type_map"]),
        capacity=tuple(int(count) for count in descriptor["sel"]),
        cutoff=float(descriptor["rcut"]),
        cutoff_smooth=float(descriptor["rcut_smth"]),
        embedding=tuple(descriptor["neuron"]),
        axis=int(descriptor["axis_neuron"]),
        fitting=tuple(fitting["neuron"]),
        activation=names.pop().lower(),
        type_one_side=bool(descriptor["type_one_side"]),
        resnet_dt=bool(fitting["resnet_dt"]),
    )


def _statistics(data: Mapping[str, Any], arch: Architecture, source: str) -> Statistics:
    n_types = len(arch.elements)
    variables = data["descriptor"]["@variables"]
    mean, std = (_shaped(variables[name], (n_types, arch.n_slots, 4), f"{source}: {name}") for name in ("davg", "dstd"))
    if np.ptp(mean, axis=1).any() or np.ptp(std, axis=1).any():
        raise InputError(f"{source}: a model whose davg or dstd differ between neighbours is not supported")
    # out_std is ignored although a training sets it: DeePMD-kit shifts an energy, but does not scale it.
    shift = _shaped(data["@variables"]["out_bias"], (1, n_types, 1), f"{source}: out_bias")
    bias = _shaped(data["fitting"]["@variables"]["bias_atom_e"], (n_types, 1), f"{source}: bias_atom_e")
    return Statistics(
        mean=mean[:, 0, :],
        std=std[:, 0, :],
        energy_bias=shift[0, :, 0] + bias[:, 0],
        unknown=(NOBODY,) if NOBODY in arch.elements else (),
    )


def _weights(data: Mapping[str, Any], arch: Architecture, source: str) -> Iterator[_Vector]:
    """Yield the weights of all networks in the order of DeePMD-kit, which is that of `DeepPotential`."""
    embeddings, fittings = data["descriptor"]["embeddings"], data["fitting"]["nets"]
    yield from _networks(embeddings["networks"], arch.embedding_net, arch.n_embeddings, f"{source}: embedding net")
    yield from _networks(fittings["networks"], arch.fitting_net, len(arch.elements), f"{source}: fitting net")


def _networks(networks: Sequence[Any], net: NetworkShape, count: int, name: str) -> Iterator[_Vector]:
    if len(networks) != count:
        raise CheckpointError(f"{name}s: {count} are needed, got {len(networks)}; freeze the model again")
    for index, network in enumerate(networks):
        layers = network["layers"]
        if len(layers) != len(net.layers):
            raise CheckpointError(f"{name} {index} must have {len(net.layers)} layers, got {len(layers)}")
        for shape, layer in zip(net.layers, layers, strict=True):
            arrays = layer["@variables"]
            yield _shaped(arrays["w"], (shape.n_in, shape.n_out), f"{name} {index}").T.ravel()
            yield _shaped(arrays["b"], (shape.n_out,), f"{name} {index}")
            if len(shape.part_sizes) == 3:
                yield _shaped(arrays["idt"], (shape.n_out,), f"{name} {index}").ravel()


def _shaped(array: Any, shape: tuple[int, ...], name: str) -> _Vector:
    """Return an array in double precision; refuse another shape."""
    if np.shape(array) != shape:
        raise CheckpointError(f"{name} must have the shape {shape}, got {np.shape(array)}; freeze the model again")
    return np.asarray(array, dtype=np.float64)


def _check_finite(source: str, weights: _Vector, statistics: Statistics) -> None:
    arrays = (weights, statistics.mean, statistics.std, statistics.energy_bias)
    if not all(np.isfinite(array).all() for array in arrays):
        raise CheckpointError(f"{source} holds weights that are no finite numbers; freeze it again")
