"""Serialised form of a Deep Potential for DeePMD-kit 3."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.models._network import LayerShape, NetworkShape
from ekfcore.models.deep_potential import Architecture, DeepPotential

__all__ = ["describe", "settings_of"]

_Vector = NDArray[np.float64]

_PRECISION = "float64"


def describe(model: DeepPotential, weights: _Vector) -> dict[str, Any]:
    """Return a model in the serialised form of DeePMD-kit.

    Parameters
    ----------
    model : DeepPotential
        Form and constants.
    weights : array, shape (n,)
        Its weights.
    """
    arch = model.architecture
    n_types = len(arch.elements)
    embeddings = [weights[start : start + arch.embedding_net.n_params] for start in _starts(arch)]
    fittings = [weights[arch.fitting_slice(centre)] for centre in range(n_types)]
    return {
        "@class": "Model",
        "@version": 2,
        "type": "standard",
        "type_map": list(arch.elements),
        "atom_exclude_types": [],
        "pair_exclude_types": [],
        "rcond": None,
        "preset_out_bias": None,
        "descriptor": _descriptor(model, embeddings),
        "fitting": _fitting(arch, fittings),
        "@variables": {
            "out_bias": model.statistics.energy_bias.reshape(1, n_types, 1),
            "out_std": np.ones((1, n_types, 1)),
        },
    }


def settings_of(architecture: Architecture) -> dict[str, Any]:
    """Return the ``model`` section of an input of DeePMD-kit that gives this architecture."""
    shared = {"activation_function": architecture.activation, "precision": _PRECISION}
    return {
        "type_map": list(architecture.elements),
        "descriptor": {
            "type": "se_e2_a",
            "rcut": float(architecture.cutoff),
            "rcut_smth": float(architecture.cutoff_smooth),
            "sel": list(architecture.capacity),
            "neuron": list(architecture.embedding),
            "axis_neuron": architecture.axis,
            "resnet_dt": False,
            "type_one_side": architecture.type_one_side,
            **shared,
        },
        "fitting_net": {
            "type": "ener",
            "neuron": list(architecture.fitting),
            "resnet_dt": architecture.resnet_dt,
            **shared,
        },
    }


def _starts(arch: Architecture) -> Iterator[int]:
    """Yield the start of each embedding net, in the order of DeePMD-kit, see `Architecture.embedding_index`."""
    size = arch.embedding_net.n_params
    yield from range(0, arch.n_embeddings * size, size)


def _descriptor(model: DeepPotential, embeddings: Sequence[_Vector]) -> dict[str, Any]:
    arch, statistics = model.architecture, model.statistics
    settings = settings_of(arch)["descriptor"]
    network = {"@class": "EmbeddingNetwork", "@version": 2, "in_dim": 1, **_widths(settings), "bias": True}
    # All places for neighbours have the same constants, empty ones included.
    slots = np.ones((1, arch.n_slots, 1))
    return {
        **settings,
        "@class": "Descriptor",
        "@version": 2,
        "set_davg_zero": False,
        "exclude_types": [],
        "env_protection": 0.0,
        "trainable": True,
        "spin": None,
        "type_map": list(arch.elements),
        "env_mat": {
            "rcut": settings["rcut"],
            "rcut_smth": settings["rcut_smth"],
            "protection": 0.0,
            "use_exp_switch": False,
        },
        "embeddings": _collection(
            "embedding_network",
            [{**network, "layers": _layers(arch.embedding_net, w)} for w in embeddings],
            len(arch.elements),
            ndim=1 if arch.type_one_side else 2,
        ),
        "@variables": {"davg": statistics.mean[:, None, :] * slots, "dstd": statistics.std[:, None, :] * slots},
    }


def _fitting(arch: Architecture, fittings: Sequence[_Vector]) -> dict[str, Any]:
    settings = settings_of(arch)["fitting_net"]
    n_types, width = len(arch.elements), arch.embedding[-1] * arch.axis
    network = {"@class": "FittingNetwork", "@version": 1, "in_dim": width, "out_dim": 1, **_widths(settings)}
    constants = ("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
    return {
        **settings,
        "@class": "Fitting",
        "@version": 4,
        "var_name": "energy",
        "ntypes": n_types,
        "dim_descrpt": width,
        "dim_out": 1,
        "numb_fparam": 0,
        "numb_aparam": 0,
        "dim_case_embd": 0,
        "default_fparam": None,
        "mixed_types": False,
        "rcond": None,
        "exclude_types": [],
        "type_map": list(arch.elements),
        "tot_ener_zero": False,
        "trainable": [True] * (len(arch.fitting) + 1),
        "layer_name": None,
        "use_aparam_as_mask": False,
        "spin": None,
        "atom_ener": None,
        "nets": _collection(
            "fitting_network",
            [{**network, "bias_out": True, "layers": _layers(arch.fitting_net, w)} for w in fittings],
            n_types,
            ndim=1,
        ),
        "@variables": {"bias_atom_e": np.zeros((n_types, 1)), **dict.fromkeys(constants)},
    }


def _widths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a descriptor or fitting net that each of its networks repeats."""
    return {key: settings[key] for key in ("neuron", "activation_function", "resnet_dt", "precision")}


def _collection(kind: str, networks: list[dict[str, Any]], n_types: int, *, ndim: int) -> dict[str, Any]:
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": ndim,
        "ntypes": n_types,
        "network_type": kind,
        "networks": networks,
    }


def _layers(net: NetworkShape, weights: _Vector) -> list[dict[str, Any]]:
    parts = iter(np.split(weights, np.cumsum(net.part_sizes)[:-1]))
    return [_layer(layer, [next(parts) for _ in layer.part_sizes]) for layer in net.layers]


def _layer(layer: LayerShape, parts: Sequence[_Vector]) -> dict[str, Any]:
    """Describe a layer; DeePMD-kit has the transposed matrix, shape (n_in, n_out)."""
    matrix, bias, *time_step = parts
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": True,
        "use_timestep": bool(time_step),
        "activation_function": "none" if layer.activation == "linear" else layer.activation,
        "resnet": layer.resnet,
        "precision": _PRECISION,
        "trainable": True,
        "@variables": {
            "w": matrix.reshape(layer.n_out, layer.n_in).T.copy(),
            "b": bias,
            "idt": time_step[0] if time_step else None,
        },
    }
