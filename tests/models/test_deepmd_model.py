"""DeePMD-kit's own models under the filter: against our Deep Potential, finite differences and DeePMD-kit itself."""

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
from ekfcore.models.deep_potential import DeepPotential, fit_statistics

# torch and its users deprecate what DeePMD-kit calls.
pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]
MOLECULE = (False, False, False)

SE_ATTEN = {"type": "se_atten", "sel": "auto", "neuron": [4, 8], "axis_neuron": 4, "attn": 8, "attn_layer": 2}
DPA2 = {
    "type": "dpa2",
    "repinit": {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 40, "neuron": [4, 8], "axis_neuron": 4},
    "repformer": {"rcut": 3.0, "rcut_smth": 1.0, "nsel": 20, "nlayers": 1, "g1_dim": 8, "g2_dim": 4},
}
CUTOFF = {"rcut": 4.0, "rcut_smth": 1.0}
DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_e2_r": {"type": "se_e2_r", "sel": "auto", "neuron": [4, 8], **CUTOFF},
    "se_atten": SE_ATTEN | CUTOFF,
    "dpa2": DPA2,
    "hybrid": {
        "type": "hybrid",
        "list": [
            {"type": "se_e2_a", "neuron": [3, 6], "axis_neuron": 2, **CUTOFF},
            {"type": "se_e2_r", "neuron": [4, 4], **CUTOFF},
        ],
    },
}


@pytest.fixture(autouse=True)
def needed(deepmd: ModuleType) -> None:
    """Have DeePMD-kit on the CPU, and skip without what trains and writes HDF5."""
    for package in ("h5py", "pydantic"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')


def _frames(make_case: MakeCase, count: int = 3, **settings: Any) -> list[Frame]:
    """Return frames of the same atoms with energies."""
    frames = [make_case(**{"symbols": "Cu O O Cu"} | settings, seed=seed)[1] for seed in range(count)]
    return [replace(frame, energy=-3.0 * frame.n_atoms + 0.1 * k) for k, frame in enumerate(frames)]


def _model(make_case: MakeCase, descriptor: dict[str, Any], **more: Any) -> Any:
    from ekfcore.deepmd.kit_model import DeepmdModel

    settings = {"type_map": ["Cu", "O"], "descriptor": descriptor, "fitting_net": {"neuron": [5, 5]}, **more}
    return DeepmdModel.from_settings(settings, _frames(make_case))


def _moved(frame: Frame, change: Vector) -> Frame:
    return replace(frame, positions=frame.positions + change)


def _strained(frame: Frame, strain: Vector) -> Frame:
    stretch = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ stretch, cell=frame.cell @ stretch)


@pytest.mark.parametrize(
    "settings",
    [
        {"symbols": "Cu O O Cu"},
        {"symbols": "Cu O O Cu", "type_one_side": True, "resnet_dt": True},
        {"symbols": "Cu Cu O", "elements": ("O", "H", "Cu"), "capacity": (4, 2, 8)},
        {"symbols": "O H H", "pbc": MOLECULE},
    ],
    ids=["two elements", "one side, time step", "absent element", "molecule"],
)
def test_se_e2_a_is_our_deep_potential(settings: dict[str, Any], make_case: MakeCase, tmp_path: Path) -> None:
    """The same predictions, and the same gradients in the other order of the weights."""
    import torch

    from ekfcore.deepmd.description import describe, settings_of
    from ekfcore.deepmd.dp_file import write_dp
    from ekfcore.deepmd.kit_model import DeepmdModel

    ours, frame, w = make_case(**settings)

    def exported(weights: Vector) -> Any:
        described = {"model": describe(ours, weights), "model_def_script": settings_of(ours.architecture)}
        write_dp(tmp_path / "model.dp", described)
        return DeepmdModel.load(tmp_path / "model.dp")

    theirs = exported(w)
    order = exported(np.arange(float(len(w)))).weights.numpy().astype(int)
    sample, v = ours.environment(frame, like=w), theirs.weights
    np.testing.assert_array_equal(v.numpy(), w[order])
    rng = np.random.default_rng(1)
    cotangents: list[dict[str, Any]] = [
        {"energy": np.asarray(1.0)},
        {"forces": rng.normal(size=(frame.n_atoms, 3))},
        {"virial": rng.normal(size=(3, 3))},
        {"energy": np.asarray(0.3), "forces": rng.normal(size=(frame.n_atoms, 3))},
    ]
    prediction, pull = theirs.linearize(v, theirs.environment(frame, like=v))
    for name, expected in ours.predict(w, sample).items():
        scale = max(np.max(np.abs(expected)), 1e-3)
        np.testing.assert_allclose(prediction[name], expected, rtol=0, atol=1e-10 * scale, err_msg=name)
    values, H = ours.jacobian(w, sample, cotangents)
    found = pull([{name: torch.tensor(array) for name, array in c.items()} for c in cotangents])
    np.testing.assert_allclose(found[0], values, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[1], H[:, order], rtol=0, atol=1e-10 * np.max(np.abs(H)))


def test_statistics_are_those_of_our_own(make_case: MakeCase) -> None:
    """Frames of several kinds, against the sums that `fit_statistics` forms by itself."""
    from ekfcore.deepmd.description import settings_of
    from ekfcore.deepmd.kit_model import DeepmdModel
    from ekfcore.deepmd.rebuild import rebuild

    frames = _frames(make_case) + _frames(make_case, symbols="O Cu O") + _frames(make_case, pbc=MOLECULE)
    architecture = make_case("Cu O", capacity=(30, 30))[0].architecture
    model = DeepmdModel.from_settings(settings_of(architecture), frames)
    expected = fit_statistics(frames, architecture)
    found = rebuild(model.module.serialize(), "model")[0].statistics
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-10)
    np.testing.assert_allclose(found.energy_bias, expected.energy_bias, rtol=1e-8)


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS.keys())
def test_gradients_by_finite_differences(descriptor: dict[str, Any], make_case: MakeCase) -> None:
    """Forces and virial of the energy; weight gradients of a functional of all three."""
    import torch

    model, frame, step = _model(make_case, descriptor), _frames(make_case)[0], 1e-5
    w = model.weights
    sample, rng = model.environment(frame, like=w), np.random.default_rng(2)
    prediction = model.predict(w, sample)

    def energy(moved: Frame) -> float:
        return float(model.predict(w, model.environment(moved, like=w))["energy"])

    direction, strain = rng.normal(size=(frame.n_atoms, 3)), rng.normal(size=(3, 3))
    slope = (energy(_moved(frame, step * direction)) - energy(_moved(frame, -step * direction))) / (2 * step)
    np.testing.assert_allclose(-(prediction["forces"].numpy() * direction).sum(), slope, rtol=1e-6, atol=1e-9)
    slope = (energy(_strained(frame, step * strain)) - energy(_strained(frame, -step * strain))) / (2 * step)
    np.testing.assert_allclose(-(prediction["virial"].numpy() * strain).sum(), slope, rtol=1e-6, atol=1e-9)

    cotangent = {name: torch.tensor(rng.normal(size=tuple(array.shape))) for name, array in prediction.items()}
    value, H = model.jacobian(w, sample, [cotangent])

    def functional(weights: Any) -> float:
        found = model.predict(weights, sample)
        return float(sum((found[name] * cotangent[name]).sum() for name in found))

    assert functional(w) == pytest.approx(float(value[0]), rel=1e-12)
    for v in torch.randn(5, len(w), dtype=torch.float64, generator=torch.Generator().manual_seed(3)):
        slope = (functional(w + step * v) - functional(w - step * v)) / (2 * step)
        np.testing.assert_allclose(float(H[0] @ v), slope, rtol=1e-6, atol=1e-8)


def test_the_filter_trains_se_atten() -> None:
    """Copper as the effective medium theory has it: in eight epochs the errors of other frames fall below a quarter."""
    import torch
    from ase.build import bulk
    from ase.calculators.emt import EMT

    import ekfcore as ek
    from ekfcore.deepmd.kit_model import DeepmdModel
    from ekfcore.potentials.sample import Sample
    from ekfcore.presets import preset
    from ekfcore.training import KalmanOptimizer

    frames = []
    for k in range(14):
        atoms: Any = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()  # type: ignore[no-untyped-call]
        atoms.get_stress()
        frames.append(Frame.from_ase(atoms, f"frame {k}"))
    settings = {"type_map": ["Cu"], "descriptor": SE_ATTEN | CUTOFF, "fitting_net": {"neuron": [8, 8]}}
    model = DeepmdModel.from_settings(settings, frames[:12])
    recipe = preset("recommended")
    w = model.weights
    samples = [
        Sample(
            environment=model.environment(frame, like=w),
            energy=torch.tensor(frame.energy, dtype=w.dtype),
            forces=torch.tensor(frame.forces),
            virial=torch.tensor(frame.virial),
            n_atoms=frame.n_atoms,
        )
        for frame in frames
    ]
    state = ek.init(w, ek.partition(model.layer_sizes), recipe.config)
    optimizer, rng = KalmanOptimizer(model, recipe, state), np.random.default_rng(0)

    def error() -> float:
        squares = [
            (model.predict(optimizer.weights, sample.environment)["forces"] - sample.forces) ** 2
            for sample in samples[12:]
        ]
        return float(torch.stack(squares).mean().sqrt())

    before = error()
    for _ in range(8):
        for sample in samples[:12]:
            optimizer.step([sample], rng)
    assert error() < before / 4


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS.keys())
def test_deepmd_kit_reads_what_is_saved(descriptor: dict[str, Any], make_case: MakeCase, tmp_path: Path) -> None:
    """Weights of a training, through DeePMD-kit's own evaluation and back."""
    from deepmd.infer import DeepPot

    from ekfcore.deepmd.kit_model import DeepmdModel

    model = _model(make_case, descriptor)
    w = model.weights * 1.1
    model.store(w)
    for name in ("model.pth", "model.dp"):
        model.save(tmp_path / name)
        assert DeepmdModel.load(tmp_path / name).weights.equal(w)
    pot = DeepPot(str(tmp_path / "model.pth"))
    for frame in (_frames(make_case)[1], _frames(make_case, symbols="O Cu O", pbc=MOLECULE)[0]):
        types = [model.elements.index(symbol) for symbol in frame.symbols]
        box = frame.cell.reshape(1, 9) if frame.pbc.all() else None
        theirs = pot.eval(frame.positions.reshape(1, -1), box, types)
        ours = model.predict(w, model.environment(frame, like=w))
        for name, expected in zip(("energy", "forces", "virial"), theirs, strict=True):
            array = ours[name].numpy()
            np.testing.assert_allclose(array, expected.reshape(array.shape), rtol=1e-10, atol=1e-12, err_msg=name)


def test_checkpoints_of_a_training(make_case: MakeCase, tmp_path: Path) -> None:
    """A ``.pt`` as DeePMD-kit's trainer leaves it."""
    import torch
    from deepmd.pt.train.wrapper import ModelWrapper

    from ekfcore.deepmd.kit_model import DeepmdModel

    model = _model(make_case, DESCRIPTORS["se_atten"])
    wrapper = ModelWrapper(model.module, model_params=model.settings)
    torch.save({"model": wrapper.state_dict()}, tmp_path / "model.ckpt.pt")
    assert DeepmdModel.load(tmp_path / "model.ckpt.pt").weights.equal(model.weights)


def test_single_precision(make_case: MakeCase) -> None:
    """Weights in float32; the predictions differ by as much."""
    import torch

    settings = {"fitting_net": {"neuron": [5, 5], "precision": "float32"}}
    model = _model(make_case, {**DESCRIPTORS["se_atten"], "precision": "float32"}, **settings)
    double = _model(make_case, DESCRIPTORS["se_atten"])
    w, frame = model.weights, _frames(make_case)[0]
    assert w.dtype == torch.float32
    double.store(w.double())
    _, H = model.jacobian(w, model.environment(frame, like=w), [{"energy": torch.ones(())}])
    _, expected = double.jacobian(
        w.double(), double.environment(frame, like=w.double()), [{"energy": torch.ones(()).double()}]
    )
    assert H.dtype == torch.float32
    np.testing.assert_allclose(H, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_frames_that_do_not_fit(make_case: MakeCase) -> None:
    """One line each."""
    from ekfcore.deepmd.kit_model import DeepmdModel

    model = _model(make_case, DESCRIPTORS["se_e2_r"])
    w, frame = model.weights, _frames(make_case)[0]
    with pytest.raises(
        InputError, match="made up, frame 0 holds H, which the model does not know; its elements are Cu, O"
    ):
        model.environment(make_case("H O Cu")[1], like=w)
    with pytest.raises(InputError, match="along all directions or none"):
        model.environment(make_case("Cu O", pbc=(True, True, False))[1], like=w)
    with pytest.raises(InputError, match="`like` must be the weights of the model"):
        model.environment(frame, like=w.numpy())
    with pytest.raises(InputError, match="at least one training frame"):
        DeepmdModel.from_settings(model.settings, [])
    with pytest.raises(InputError, match="has no energy"):
        DeepmdModel.from_settings(model.settings, [replace(frame, energy=None)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptor": {"type": "se_e5"}}, "DeePMD-kit refuses the section `model`: .*se_e5"),
        ({"descriptor": {**DESCRIPTORS["se_atten"], "rcot": 4.0}}, "DeePMD-kit refuses the section `model`: .*rcot"),
        ({"type_map": []}, "needs a type_map"),
        ({"fitting_net": {"type": "dos", "numb_dos": 3}}, "needs an energy with forces as its gradient"),
        ({"fitting_net": {"neuron": [5, 5], "numb_fparam": 1}}, "takes no parameters of frames"),
    ],
)
def test_settings_that_cannot_be_trained(change: dict[str, Any], message: str, make_case: MakeCase) -> None:
    """What DeePMD-kit does not know, and what we do not."""
    with pytest.raises(InputError, match=message) as caught:
        _model(make_case, **{"descriptor": DESCRIPTORS["se_atten"]} | change)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models(make_case: MakeCase, tmp_path: Path) -> None:
    """By their name or by what is in them."""
    from ekfcore.deepmd.dp_file import write_dp
    from ekfcore.deepmd.kit_model import DeepmdModel

    model = _model(make_case, DESCRIPTORS["se_e2_r"])
    with pytest.raises(InputError, match=r"must end in \.dp or \.pth"):
        model.save(tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"must end in \.dp, \.pth or \.pt"):
        DeepmdModel.load(tmp_path / "model.pb")
    with pytest.raises(InputError, match="is no file"):
        DeepmdModel.load(tmp_path / "model.pth")
    write_dp(tmp_path / "model.dp", {"model": {"type": "standard"}})
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        DeepmdModel.load(tmp_path / "model.dp")
