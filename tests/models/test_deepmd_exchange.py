"""Models to DeePMD-kit and back."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.errors import CheckpointError, InputError
from ekfcore.models.deep_potential import DeepPotential

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]
Neighbours: TypeAlias = Callable[[Frame, int, float], Any]

PARITY = 1e-10  # relative to the largest number of an array
EXPORTED = pytest.mark.parametrize(
    "deepmd_case",
    [
        "one element",
        "one element, one side",
        "two elements",
        "two elements, one side",
        "three elements",
        "three elements, one side",
        "time step",
        "molecule",
        "narrow cell",
        "linear",
        "absent element without slots",
    ],
    indirect=True,
)


@pytest.fixture(autouse=True)
def needed() -> None:
    """Skip without what reads data and writes HDF5."""
    for package in ("h5py", "pydantic", "psutil"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')


def _loaded(model: DeepPotential, weights: Vector) -> Any:
    from ekfcore.potentials.position import Position
    from ekfcore.training import LoadedModel

    arrays = {"weights": weights}
    return LoadedModel(
        model=model, weights=weights, settings={}, position=Position(), optimizer={"type": "adam"}, arrays=arrays
    )


def _assert_parity(actual: Any, expected: Any) -> None:
    scale = max(np.max(np.abs(expected)), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=PARITY * scale)


# ---- without DeePMD-kit


def test_round_trip(case: Case, tmp_path: Path) -> None:
    """What was exported comes back to the last bit."""
    from ekfcore.deepmd import export_model, import_model
    from ekfcore.training import load_model

    model, _, weights = case
    export_model(_loaded(model, weights), tmp_path / "model.dp", room=1)
    import_model(tmp_path / "model.dp", tmp_path / "out")
    back = load_model(tmp_path / "out")
    assert back.model.architecture == model.architecture  # type: ignore[attr-defined]
    np.testing.assert_array_equal(back.weights, weights)
    for name in ("mean", "std", "energy_bias"):
        np.testing.assert_array_equal(getattr(back.model.statistics, name), getattr(model.statistics, name))  # type: ignore[attr-defined]


def test_equal_models_make_equal_files(make_case: MakeCase, tmp_path: Path) -> None:
    """No date, no chance."""
    from ekfcore.deepmd import export_model

    model, _, weights = make_case("Cu O O Cu")
    for name in ("a.dp", "b.dp"):
        export_model(_loaded(model, weights), tmp_path / name)
    assert (tmp_path / "a.dp").read_bytes() == (tmp_path / "b.dp").read_bytes()


@EXPORTED
def test_description(deepmd_case: Case, neighbours: Neighbours) -> None:
    """The energy, computed from the description alone by the rules of DeePMD-kit."""
    from ekfcore.deepmd.description import describe

    model, frame, weights = deepmd_case
    energy = float(model.predict(weights, model.environment(frame, like=weights))["energy"])
    assert _energy(describe(model, weights), frame, neighbours) == pytest.approx(energy, rel=PARITY)


ROOM = pytest.mark.parametrize("deepmd_case", ["one element", "one element, one side", "three elements"], indirect=True)


@ROOM
def test_room_for_neighbours(deepmd_case: Case, neighbours: Neighbours) -> None:
    """With places beyond the capacity the energy is the same by the rules of DeePMD-kit, in denser frames too."""
    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.room import with_room

    model, frame, weights = deepmd_case
    wide, more, reason = with_room(model, weights, 2.0)
    assert (reason, wide.architecture.elements[-1]) == ("", "X")
    assert wide.architecture.capacity[:-1] == tuple(2 * count for count in model.architecture.capacity)
    dense = replace(frame, positions=0.75 * frame.positions, cell=0.75 * frame.cell)
    counts = [len(list(neighbours(dense, atom, model.architecture.cutoff))) for atom in range(frame.n_atoms)]
    assert max(counts) > max(model.architecture.capacity)
    for made in (frame, dense):
        energy = float(model.predict(weights, model.environment(made, like=weights))["energy"])
        assert _energy(describe(wide, more), made, neighbours) == pytest.approx(energy, rel=PARITY)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": "gelu"}, "tanh"),
        ({"type_one_side": True}, "type_one_side"),
        ({"embedding": (2, 4)}, "wider than 2"),
        ({"embedding": (3, 6), "axis": 2, "fitting": (12, 3)}, "passes its input on"),
    ],
)
def test_no_room(make_case: MakeCase, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """Where no room can be made, the model goes as it is, and that is told."""
    from ekfcore.deepmd import export_model

    model, _, weights = make_case("Cu O O Cu", **change)
    notes = export_model(_loaded(model, weights), tmp_path / "model.dp", room=1.5)
    counts = ", ".join(f"{n} {e}" for n, e in zip(model.architecture.capacity, ("Cu", "O"), strict=True))
    assert f"places for {counts};" in notes[0]
    assert reason in notes[1]


def test_room_without_mean(make_case: MakeCase, neighbours: Neighbours) -> None:
    """Where an empty place adds nothing, more of them are a factor only, and no element is needed."""
    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.room import with_room

    model, frame, weights = make_case("Cu O O Cu", type_one_side=True)
    model = replace(model, statistics=replace(model.statistics, mean=np.zeros((2, 4))))
    wide, more, reason = with_room(model, weights, 1.5)
    assert (reason, wide.architecture.elements) == ("", ("Cu", "O"))
    energy = float(model.predict(weights, model.environment(frame, like=weights))["energy"])
    assert _energy(describe(wide, more), frame, neighbours) == pytest.approx(energy, rel=PARITY)


def _energy(data: dict[str, Any], frame: Frame, neighbours: Neighbours) -> float:
    """Evaluate a described model one neighbour at a time."""
    descriptor, types = data["descriptor"], [data["type_map"].index(symbol) for symbol in frame.symbols]
    sel, n_types = descriptor["sel"], len(data["type_map"])
    first = [sum(sel[:kind]) for kind in range(n_types)]
    energy = 0.0
    for atom, centre in enumerate(types):
        rows, outputs = np.zeros((sum(sel), 4)), []
        used = list(first)
        for other, vector in neighbours(frame, atom, descriptor["rcut"]):
            r = np.linalg.norm(vector)
            u = np.clip((r - descriptor["rcut_smth"]) / (descriptor["rcut"] - descriptor["rcut_smth"]), 0, 1)
            weight = (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) / r
            rows[used[types[other]]] = weight * np.array([1.0, *(vector / r)])
            used[types[other]] += 1
        rows = (rows - descriptor["@variables"]["davg"][centre]) / descriptor["@variables"]["dstd"][centre]
        for kind, row in zip(np.repeat(range(n_types), sel), rows, strict=True):
            nets = descriptor["embeddings"]
            net = nets["networks"][kind if nets["ndim"] == 1 else centre + n_types * kind]
            outputs.append(_network(net, row[:1]))
        mixed = np.array(outputs).T @ rows / sum(sel)
        features = (mixed @ mixed[: descriptor["axis_neuron"]].T).ravel()
        energy += _network(data["fitting"]["nets"]["networks"][centre], features)[0]
        energy += data["@variables"]["out_bias"][0, centre, 0]
    return float(energy)


def _network(net: dict[str, Any], x: Vector) -> Vector:
    for layer in net["layers"]:
        arrays = layer["@variables"]
        y = x @ arrays["w"] + arrays["b"]
        if layer["activation_function"] == "tanh":
            y = np.tanh(y)
        if layer["use_timestep"]:
            y = y * arrays["idt"]
        copies = len(y) / len(x) if layer["resnet"] else 0
        x = y + np.tile(x, int(copies)) if copies in (1, 2) else y
    return x


def test_many_elements(make_case: MakeCase, tmp_path: Path) -> None:
    """The description grows beyond the 64 KiB that a plain attribute of HDF5 may have."""
    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.dp_file import read_dp, write_dp

    elements = ("Cu", *(f"X{k}" for k in range(15)))
    model, _, weights = make_case("Cu Cu", elements=elements, capacity=(4,) * 16)
    write_dp(tmp_path / "model.dp", {"model": describe(model, weights)})
    assert len(json.dumps(read_dp(tmp_path / "model.dp"), default=lambda array: "")) > 2**16


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
def test_truncated(make_case: MakeCase, tmp_path: Path, length: float) -> None:
    """One line, and no folder."""
    from ekfcore.deepmd import export_model, import_model

    model, _, weights = make_case("Cu O O Cu")
    path = tmp_path / "model.dp"
    export_model(_loaded(model, weights), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: length if isinstance(length, int) else int(length * len(whole))])
    with pytest.raises(CheckpointError, match=r"^.*model\.dp is damaged or no model of DeePMD-kit \(.*$") as caught:
        import_model(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("type", "spin_ener", "a model with type = 'spin_ener' is not supported, only 'standard'"),
        ("descriptor.type", "dpa1", "a model with descriptor.type = 'dpa1' is not supported, only 'se_e2_a'"),
        ("fitting.type", "dipole", "a model with fitting.type = 'dipole' is not supported"),
        ("descriptor.exclude_types", [[0, 1]], "descriptor.exclude_types = [[0, 1]] is not supported"),
        ("descriptor.resnet_dt", True, "descriptor.resnet_dt = True is not supported"),
        ("fitting.numb_fparam", 2, "fitting.numb_fparam = 2 is not supported"),
        ("fitting.mixed_types", True, "fitting.mixed_types = True is not supported"),
        ("fitting.atom_ener", [None, -3.0], "fitting.atom_ener = [None, -3.0] is not supported"),
        ("fitting.activation_function", "relu", "two activations, relu, tanh, is not supported"),
        ("descriptor.activation_function", "sine", "`activation` must be one of tanh"),
        ("@variables.out_bias", np.full((1, 2, 1), np.nan), "weights that are no finite numbers"),
        ("@variables.out_bias", np.zeros(2), "out_bias must have the shape (1, 2, 1), got (2,)"),
        ("fitting.nets.networks", [], "fitting nets: 2 are needed, got 0"),
        ("descriptor.sel", None, "lacks what a model must say"),
    ],
)
def test_other_models(make_case: MakeCase, tmp_path: Path, path: str, value: Any, told: str) -> None:
    """Refused by name."""
    from ekfcore.deepmd import import_model
    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.dp_file import write_dp

    model, _, weights = make_case("Cu O O Cu")
    data = describe(model, weights)
    if path == "descriptor.activation_function":
        data["fitting"]["activation_function"] = value
    *above, last = path.split(".")
    node = data
    for part in above:
        node = node[part]
    node[last] = value
    write_dp(tmp_path / "model.dp", {"model": data})
    with pytest.raises((InputError, CheckpointError)) as caught:
        import_model(tmp_path / "model.dp", tmp_path / "out")
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_shifts_add_up(make_case: MakeCase) -> None:
    """DeePMD-kit may keep the energy of an atom in either of two places."""
    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.rebuild import rebuild

    model, _, weights = make_case("Cu O O Cu")
    data = describe(model, weights)
    data["fitting"]["@variables"]["bias_atom_e"] = np.array([[1.0], [2.0]])
    data["@variables"]["out_std"] = np.full((1, 2, 1), 0.5)  # which no energy model uses
    bias = rebuild(data, "model")[0].statistics.energy_bias
    np.testing.assert_array_equal(bias, model.statistics.energy_bias + np.array([1.0, 2.0]))


# ---- with DeePMD-kit


@pytest.mark.deepmd
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@EXPORTED
def test_parity(deepmd_case: Case, deepmd: ModuleType, tmp_path: Path) -> None:
    """Energy, energies of the atoms, forces and virial of the exported model in DeePMD-kit's own evaluation."""
    from deepmd.infer import DeepPot

    from ekfcore.deepmd import export_model

    model, frame, weights = deepmd_case
    ours = model.predict(weights, model.environment(frame, like=weights))
    types = [model.architecture.elements.index(symbol) for symbol in frame.symbols]
    cell = frame.cell.reshape(1, 9) if frame.pbc.all() else None
    for name in ("model.dp", "model.pth"):
        export_model(_loaded(model, weights), tmp_path / name)
        theirs = DeepPot(str(tmp_path / name)).eval(frame.positions.reshape(1, -1), cell, types, atomic=True)
        energy, forces, virial, energies, _ = theirs
        _assert_parity(energy[0, 0], ours["energy"])
        _assert_parity(energies[0, :, 0], model.atomic_energies(weights, model.environment(frame, like=weights)))
        if name == "model.pth":  # the other has no gradients
            _assert_parity(forces[0], ours["forces"])
            _assert_parity(virial[0].reshape(3, 3), ours["virial"])


@pytest.mark.deepmd
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@EXPORTED
def test_description_is_theirs(deepmd_case: Case, deepmd: ModuleType) -> None:
    """DeePMD-kit says the same of the model when it is asked: no key is missing, none is made up."""
    from ekfcore.deepmd.description import describe

    model, _, weights = deepmd_case
    data = describe(model, weights)
    theirs = deepmd.EnergyModel.deserialize(describe(model, weights)).serialize()
    assert dict(_leaves(theirs)).keys() == dict(_leaves(data)).keys()
    for (name, expected), (_, value) in zip(sorted(_leaves(theirs)), sorted(_leaves(data)), strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=name)


def _leaves(node: Any, name: str = "") -> Any:
    """Yield path and value of every leaf of a tree."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}")
    elif isinstance(node, list) and any(isinstance(value, dict) for value in node):
        for index, value in zip(itertools.count(), node, strict=False):
            yield from _leaves(value, f"{name}.{index}")
    else:
        yield name, np.asarray(node) if not isinstance(node, str | None) else str(node)


@pytest.mark.deepmd
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_models_come_back(make_case: MakeCase, deepmd: ModuleType, tmp_path: Path) -> None:
    """A frozen model of the PyTorch backend."""
    from ekfcore.deepmd import export_model, import_model

    model, _, weights = make_case("Cu O O Cu", resnet_dt=True)
    export_model(_loaded(model, weights), tmp_path / "model.pth", room=1)
    back = import_model(tmp_path / "model.pth", tmp_path / "out")
    assert back.model.architecture == model.architecture  # type: ignore[attr-defined]
    np.testing.assert_array_equal(back.weights, weights)
    (tmp_path / "model.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged or no model of DeePMD-kit's PyTorch backend"):
        import_model(tmp_path / "model.pth", tmp_path / "other")


@pytest.mark.deepmd
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_training_fills_in(make_case: MakeCase, deepmd: ModuleType) -> None:
    """Shifts in both places, and a scale of the output that no energy model uses."""
    import torch

    from ekfcore.deepmd.description import describe
    from ekfcore.deepmd.rebuild import rebuild

    model, frame, weights = make_case("Cu O O Cu")
    data = describe(model, weights)
    data["fitting"]["@variables"]["bias_atom_e"] = np.array([[1.0], [2.0]])
    data["@variables"]["out_std"] = np.full((1, 2, 1), 0.5)
    back, weights = rebuild(data, "model")
    theirs = deepmd.EnergyModel.deserialize(data)(
        torch.tensor(frame.positions)[None],
        torch.tensor([[back.architecture.elements.index(symbol) for symbol in frame.symbols]]),
        box=torch.tensor(frame.cell).reshape(1, 9),
    )
    ours = back.predict(weights, back.environment(frame, like=weights))
    _assert_parity(theirs["energy"][0, 0].detach().numpy(), ours["energy"])
