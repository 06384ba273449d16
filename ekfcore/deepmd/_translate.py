"""Translation of an input of DeePMD-kit into tables of CONFIG; missing keys get the defaults of DeePMD-kit."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ._section import Section

__all__ = ["data_table", "model_table", "optimizer_table", "with_their_keys"]

_Table = dict[str, Any]


_THEIRS = {
    "model.elements": "model.type_map",
    "model.capacity": "model.descriptor.sel",
    "model.cutoff": "model.descriptor.rcut",
    "model.cutoff_smooth": "model.descriptor.rcut_smth",
    "model.embedding": "model.descriptor.neuron",
    "model.axis": "model.descriptor.axis_neuron",
    "model.type_one_side": "model.descriptor.type_one_side",
    "model.fitting": "model.fitting_net.neuron",
    "model.resnet_dt": "model.fitting_net.resnet_dt",
    "model.activation": "model.descriptor.activation_function",
    "optimizer.block_size": "optimizer.kf_blocksize",
    "optimizer.energy_prefactor": "optimizer.kf_start_pref_e",
    "optimizer.force_prefactor": "optimizer.kf_start_pref_f",
    "optimizer.energy_prefactors": "loss.start_pref_e and loss.limit_pref_e",
    "optimizer.force_prefactors": "loss.start_pref_f and loss.limit_pref_f",
    "optimizer.virial_prefactors": "loss.start_pref_v and loss.limit_pref_v",
    "optimizer.learning_rate": "learning_rate.start_lr",
    "optimizer.final_learning_rate": "learning_rate.stop_lr",
    "optimizer.decay_steps": "learning_rate.decay_steps",
    "data.train": "training.training_data.systems",
    "data.test": "training.validation_data.systems",
    "training.batch": "training.training_data.batch_size",
    "training.lcurve": "training.disp_file",
}


def with_their_keys(message: str, given: Collection[str]) -> str:
    """Return a message on a table of CONFIG with its keys replaced by those of the input.

    Parameters
    ----------
    message : str
        Message with keys of CONFIG.
    given : collection of str
        Keys of CONFIG that the user gave beside the input; they are not replaced.
    """
    known = {ours: theirs for ours, theirs in _THEIRS.items() if ours not in given}
    return re.sub(r"\b[a-z]+\.[a-z_]+\b", lambda found: known.get(found[0], found[0]), message)


def data_table(training: Section, data: Section, folder: Path) -> _Table:
    """Return ``[data]``.

    Parameters
    ----------
    training : Section
        ``training``.
    data : Section
        Section that names the systems: ``training_data``, or ``training`` itself in version 1 of the input.
    folder : Path
        Folder from which relative paths start.
    """
    table: _Table = {"train": _systems(data, folder)}
    if "validation_data" in training:
        table["test"] = _systems(training.section("validation_data"), folder)
    return table


def _systems(data: Section, folder: Path) -> Any:
    """Return the systems that a section names, or finds below a folder by patterns."""
    systems, patterns = data.need("systems"), data.take("rglob_patterns")
    data.only("set_prefix", "set")
    if patterns is None:
        return systems
    if not isinstance(systems, str) or not isinstance(patterns, list):
        raise data.wrong(f"rglob_patterns must be a list beside systems that is one folder, got {patterns}, {systems}")
    root = folder / Path(systems).expanduser()
    # As in DeePMD-kit, a folder counts once if it matches a pattern and contains type.raw itself.
    try:
        found = {path for pattern in patterns for path in root.rglob(pattern) if (path / "type.raw").is_file()}
    except (TypeError, ValueError, NotImplementedError):  # not text, empty, or an absolute path
        raise data.wrong(f"rglob_patterns must be a list of relative patterns, got {patterns}") from None
    if not found:
        raise data.wrong(f"rglob_patterns = {patterns} must match folders with type.raw below {systems}, got none")
    return sorted(map(str, found))


def model_table(model: Section) -> _Table:
    """Return ``[model]``.

    Raises
    ------
    InputError
        If the kind of model is not supported.
    """
    for key in ("model_dict", "spin", "type_embedding", "use_srtab", "modifier", "preset_out_bias"):
        model.only(key, None)
    model.only("type", "standard")
    descriptor, fitting = model.section("descriptor"), model.section("fitting_net")
    descriptor.only("type", "se_e2_a", "se_a", otherwise="; ekfcore.models.DeepmdModel trains others, from Python")
    fitting.only("type", "ener")
    for section, keys in (
        (model, ("pair_exclude_types", "atom_exclude_types")),
        (descriptor, ("exclude_types",)),
        (fitting, ("atom_ener",)),
    ):
        for key in keys:
            section.only(key, [])
    for key in ("numb_fparam", "numb_aparam", "dim_case_embd"):
        fitting.only(key, 0)
    for section in (descriptor, fitting):
        section.only("trainable", True)
    descriptor.only("resnet_dt", False)
    descriptor.only("env_protection", 0.0)
    fitting.only("layer_name", None)
    fitting.only("use_aparam_as_mask", False)
    sel = descriptor.take("sel", default="auto")
    activations = [str(section.take("activation_function", default="tanh")) for section in (descriptor, fitting)]
    if activations[0] != activations[1]:
        raise model.wrong(
            f"two activations, {activations[0]} and {activations[1]}, are not supported: activation_function must be "
            "the same for descriptor and fitting_net"
        )
    return {
        "elements": model.take("type_map"),
        "capacity": sel,  # text such as "auto" depends on the data, which are not known here
        "cutoff": descriptor.take("rcut", default=6.0),
        "cutoff_smooth": descriptor.take("rcut_smth", default=0.5),
        "embedding": descriptor.take("neuron", default=[10, 20, 40]),
        "axis": descriptor.take("axis_neuron", "n_axis_neuron", default=4),
        "type_one_side": descriptor.take("type_one_side", default=False),
        "fitting": fitting.take("neuron", "n_neuron", default=[120, 120, 120]),
        "resnet_dt": fitting.take("resnet_dt", default=True),
        "activation": activations[0].lower(),
    }


def optimizer_table(root: Section, training: Section) -> _Table:
    """Return ``[optimizer]``.

    Raises
    ------
    InputError
        If the kind of optimizer or loss is not supported.
    """
    # Before DeePMD-kit 3.2, the section of the training held the keys of the optimizer.
    section, kind = (root.section("optimizer"), "type") if "optimizer" in root else (training, "opt_type")
    loss = root.section("loss")
    loss.only("type", "ener")
    name = section.take(kind, default="Adam")
    if name == "LKF":
        return _filter(section)
    if name != "Adam":
        raise root.wrong(f"{section.full(kind)} = {name!r} is not supported, only LKF and Adam")
    section.only("adam_beta1", 0.9)
    section.only("adam_beta2", 0.999)
    section.only("weight_decay", 0.0)
    return {"preset": "adam", **_loss(loss), **_learning_rate(root.section("learning_rate"))}


def _filter(section: Section) -> _Table:
    table: _Table = {"preset": "recommended"}
    for ours, theirs, default in (
        ("block_size", "kf_blocksize", 5120),
        ("energy_prefactor", "kf_start_pref_e", 1.0),
        ("force_prefactor", "kf_start_pref_f", 1.0),
    ):
        value = section.take(theirs, default=default)
        if value != default:  # files that DeePMD-kit writes contain all defaults, which the user did not choose
            table[ours] = value
    return table


def _loss(loss: Section) -> _Table:
    for part in ("ae", "pf", "gf", "h"):
        loss.only(f"start_pref_{part}", 0.0)
        loss.only(f"limit_pref_{part}", 0.0)
    loss.only("loss_func", "mse")
    loss.only("relative_f", None)
    for key in ("use_huber", "f_use_norm", "enable_atom_ener_coeff", "intensive_ener_virial"):
        loss.only(key, False)
    defaults = {"energy": ("e", 0.02, 1.0), "force": ("f", 1000.0, 1.0), "virial": ("v", 0.0, 0.0)}
    return {
        f"{quantity}_prefactors": [
            loss.take(f"start_pref_{letter}", default=start),
            loss.take(f"limit_pref_{letter}", default=limit),
        ]
        for quantity, (letter, start, limit) in defaults.items()
    }


def _learning_rate(rate: Section) -> _Table:
    rate.only("type", "exp")
    rate.only("decay_rate", None)
    rate.only("smooth", False)
    rate.only("warmup_steps", 0)
    rate.only("warmup_ratio", None)
    rate.only("stop_lr_ratio", None)
    return {
        "learning_rate": rate.take("start_lr", default=1e-3),
        "final_learning_rate": rate.take("stop_lr", default=1e-8),
        "decay_steps": rate.take("decay_steps", default=5000),
    }
