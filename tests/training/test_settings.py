"""CONFIG: what it may say, and what is told when it says something else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from ekfcore.config import EKFConfig
from ekfcore.errors import InputError
from ekfcore.memory import MemoryFactor
from ekfcore.noise import AdaptiveNoise
from ekfcore.presets import PRESETS, Recipe, preset
from ekfcore.training import AdamSettings, Settings, load_settings

_DATA = '[data]\ntrain = "a.xyz"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_design(tmp_path: Path) -> None:
    """Every key of the documented example is read, and lands where it belongs."""
    text = """
        [data]
        train = ["Cu/train.xyz.xz"]
        test = ["Cu/test.xyz.xz"]
        [model]
        type = "deep_potential"
        cutoff = 5.0
        cutoff_smooth = 0.25
        embedding = [5, 10]
        axis = 3
        fitting = [7]
        [optimizer]
        preset = "rlekf"
        block_size = 512
        [training]
        epochs = 3
        batch = 2
        seed = 7
        [run]
        backend = "numpy"
        device = "cpu"
        threads = 2
    """
    settings = load_settings(_write(tmp_path, text))
    architecture = settings.model.architecture(["Cu"], [20])  # type: ignore[attr-defined]
    assert (architecture.cutoff, architecture.cutoff_smooth, architecture.axis) == (5.0, 0.25, 3)
    assert (architecture.embedding, architecture.fitting) == ((5, 10), (7,))
    assert settings.optimizer.recipe(100) == replace(preset("rlekf"), block_size=512)
    assert (settings.training.epochs, settings.training.batch, settings.training.seed) == (3, 2, 7)
    assert (settings.run.backend, settings.run.device, settings.run.threads) == ("numpy", "cpu", 2)


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path) -> None:
    """Wherever the command is run."""
    settings = load_settings(_write(tmp_path, '[data]\ntrain = ["a.xyz", "/b.xyz"]\ntest = "c/d.xyz"\n'))
    assert settings.data.train == [str(tmp_path / "a.xyz"), "/b.xyz"]
    assert settings.data.test == [str(tmp_path / "c" / "d.xyz")]
    assert settings.data.test_fraction is None


def test_a_fifth_is_for_testing_when_nothing_is_said(tmp_path: Path) -> None:
    """Neither `test` nor `test_fraction`."""
    assert load_settings(_write(tmp_path, _DATA)).data.test_fraction == 0.2
    assert load_settings(_write(tmp_path, f"{_DATA}test_fraction = 0.5")).data.test_fraction == 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_alone_is_the_preset(tmp_path: Path, name: str) -> None:
    """Nothing is altered that was not set."""
    settings = load_settings(_write(tmp_path, _DATA), [f"optimizer.preset={name}"])
    assert settings.optimizer.recipe(640) == preset(name, measurements_per_epoch=640)


def test_every_key_of_a_filter_can_be_set(tmp_path: Path) -> None:
    """All of Recipe, EKFConfig and MemoryFactor."""
    overrides = {
        "strategy": "deepmd",
        "block_size": 7,
        "mode": "vector",
        "groups": 2,
        "group_size": 3,
        "energy_noise": 0.5,
        "force_noise": 0.25,
        "virial_noise": 2.0,
        "energy_prefactor": 3.0,
        "force_prefactor": 4.0,
        "virial_prefactor": 5.0,
        "force_per_atom": "true",
        "memory": 0.9,
        "memory_rate": 0.99,
        "memory_counts": "updates",
        "noise": "blocks",
        "p0": 10,
        "process_noise": 0.125,
        "rows": 0,
        "pending": 4,
        "averaging": 0.5,
        "dtype": "float32",
    }
    settings = load_settings(_write(tmp_path, _DATA), [f"optimizer.{key}={value}" for key, value in overrides.items()])
    config = EKFConfig(
        memory=MemoryFactor(0.9, 0.99, "updates"),
        noise="blocks",
        p0=10.0,
        process_noise=0.125,
        pending=4,
        averaging=0.5,
        dtype="float32",
    )
    assert settings.optimizer.recipe(1) == Recipe(
        config=config,
        strategy="deepmd",
        block_size=7,
        mode="vector",
        groups=2,
        group_size=3,
        groups_per_update=2,
        energy_noise=0.5,
        force_noise=0.25,
        virial_noise=2.0,
        energy_prefactor=3.0,
        force_prefactor=4.0,
        virial_prefactor=5.0,
        force_per_atom=True,
    )


def test_adaptive_noise_can_be_set(tmp_path: Path) -> None:
    """Its own keys, with the preset's own values for those that nobody set; and for a preset that has another noise."""
    path = _write(tmp_path, _DATA)
    base = load_settings(path).optimizer.recipe(7).config.adaptive
    assert base is not None
    assert base == AdaptiveNoise(factor=0.1, power=3.0)
    changed = load_settings(path, ["optimizer.noise=adaptive", "optimizer.noise_window=30"]).optimizer.recipe(7)
    assert changed.config.noise == replace(base, window=30.0)
    overrides = ["optimizer.preset=rlekf", "optimizer.noise=adaptive", "optimizer.noise_power=3"]
    assert load_settings(path, overrides).optimizer.recipe(7).config.noise == AdaptiveNoise(power=3.0)
    with pytest.raises(InputError, match=r'optimizer.noise_factor needs optimizer.noise = "adaptive", got blocks;'):
        load_settings(path, ["optimizer.preset=rlekf", "optimizer.noise_factor=2"])
    whole = load_settings(path, ["optimizer.preset=rlekf", "optimizer.group_size=all"]).optimizer.recipe(7)
    assert whole.group_size is None


def test_adam(tmp_path: Path) -> None:
    """Its own defaults, and its own keys."""
    path = _write(tmp_path, f'{_DATA}[optimizer]\npreset = "adam"\n')
    assert load_settings(path).optimizer.adam() == AdamSettings()
    overrides = ["optimizer.learning_rate=0.01", "optimizer.energy_prefactors=[1, 2]"]
    assert load_settings(path, overrides).optimizer.adam() == AdamSettings(
        learning_rate=0.01, energy_prefactors=(1.0, 2.0)
    )


def test_json_keeps_everything(tmp_path: Path) -> None:
    """Through text and back, as in a checkpoint."""
    overrides = ["model.capacity={Cu = 3, H = 4}", "optimizer.preset=n2p2", "optimizer.noise=0.5", "run.threads=1"]
    settings = load_settings(_write(tmp_path, _DATA), overrides)
    assert Settings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
    assert settings.model.capacity == {"Cu": 3, "H": 4}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # What is not there
        ("", "data.train is missing; name at least one file"),
        ("[data]", "data.train is missing; name at least one file"),
        ("[data]\ntrain = []", "data.train must have at least 1 item, got []"),
        # What is not known
        (f"{_DATA}[optimizer]\nblocksize = 3", "unknown key optimizer.blocksize; did you mean optimizer.block_size?"),
        (f"{_DATA}[training]\nblock_size = 3", "unknown key training.block_size; did you mean optimizer.block_size?"),
        (f"{_DATA}[modle]\naxis = 3", "unknown key modle; did you mean [model]?"),
        (f"{_DATA}[run]\nxyz = 3", "unknown key run.xyz; known are backend, device, threads"),
        # Types
        ("data = 3", "data must be a table [data], got 3"),
        ("[data]\ntrain = [3]", "data.train[0] must be a string or a table, got 3"),
        ('[data]\ntrain = [{ path = "a", weight = 0 }]', "data.train[0].weight must be greater than 0, got 0"),
        ("[data]\ntrain = { weight = 2.0 }", "data.train.path is missing; add path = ... to [data.train]"),
        (
            '[data]\ntrain = [{ path = "a", wieght = 2.0 }]',
            "unknown key data.train[0].wieght; did you mean data.train.weight?",
        ),
        (f'{_DATA}[training]\nepochs = "3"', 'training.epochs must be an integer, got "3"'),
        (f"{_DATA}[training]\nepochs = true", "training.epochs must be an integer, got true"),
        (f'{_DATA}[model]\nembedding = [1, "a"]', 'model.embedding[1] must be an integer, got "a"'),
        (f"{_DATA}[model]\ncapacity = 3", "model.capacity must be a list or a table, got 3"),
        (
            f'{_DATA}[optimizer]\nnoise = "block"',
            """optimizer.noise must be a number or 'adaptive' or 'blocks', got "block\"""",
        ),
        # A table where none belongs
        (f"{_DATA}[model]\naxis = {{ a = 1 }}", 'model.axis must be an integer, got {"a": 1}'),
        (f"{_DATA}[optimizer]\nmode = {{}}", "optimizer.mode must be 'sequential', 'pinned', 'vector' or 'batch', got"),
        (f"{_DATA}[optimizer]\nprocess_noise = {{ a = 1 }}", "optimizer.process_noise must be a number, got {"),
        # Numbers
        (f"{_DATA}[training]\nepochs = 0", "training.epochs must be at least 1, got 0"),
        (f"{_DATA}[model]\ncutoff = nan", "model.cutoff must be a finite number, got NaN"),
        (f"{_DATA}[optimizer]\nblock_size = 0", "optimizer.block_size must be at least 1, got 0"),
        (f"{_DATA}[optimizer]\nmemory = 2", "optimizer.memory must be at most 1, got 2"),
        (f"{_DATA}[optimizer]\nenergy_noise = 0.0", "optimizer.energy_noise must be a positive number, got 0.0"),
        (f"{_DATA}test_fraction = 1.5", "data.test_fraction must be less than 1, got 1.5"),
        (
            f"{_DATA}[optimizer]\nforce_noise = 1e300",
            "optimizer.force_noise must be a positive number, got 1e+300; its",
        ),
        (f"{_DATA}[optimizer]\nforce_noise = 1e-300", "optimizer.force_noise must be a positive number, got 1e-300"),
        # Names of files that are taken
        (
            f'{_DATA}[training]\nlcurve = "model.npz"',
            "training.lcurve must be the name of a file, and none of model.npz",
        ),
        (f'{_DATA}[training]\nlcurve = "a/.."', "training.lcurve must be the name of a file"),
        (f'{_DATA}[training]\nlcurve = "a\\u0000"', "training.lcurve must be the name of a file"),
        # Choices
        (f'{_DATA}[optimizer]\npreset = "adma"', "optimizer.preset must be one of recommended, rlekf, deepmd-lkf, "),
        (f'{_DATA}[optimizer]\nmode = "x"', "optimizer.mode must be 'sequential', 'pinned', 'vector' or 'batch', got"),
        (f'{_DATA}[model]\nactivation = "x"', "model.activation must be one of tanh, "),
        # What does not go together
        (f"{_DATA}[model]\naxis = 26", "model.axis must lie between 1 and the last embedding width 25, got 26"),
        (f"{_DATA}[model]\ncutoff = 0.1", "model.cutoff_smooth must be at least 0 and below model.cutoff = 0.1 Å, got"),
        (
            f'{_DATA}test = "b"\ntest_fraction = 0.3',
            "data.test and data.test_fraction exclude each other, got b and 0.3",
        ),
        (f"{_DATA}[optimizer]\nlearning_rate = 0.1", 'optimizer.learning_rate belongs to preset "adam", got it beside'),
        (f'{_DATA}[optimizer]\npreset = "adam"\np0 = 3', "optimizer.p0 belongs to the filters, got it beside preset"),
        # What is no TOML
        (f"{_DATA}epochs = \n[run]", "is not TOML: Invalid value (at line 3, column 10)"),
        (f"a = {'[' * 100_000}", "is not TOML: maximum recursion depth"),
    ],
)
def test_one_line_for_each_mistake(tmp_path: Path, text: str, message: str) -> None:
    """The file, the key, the rule and the value."""
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A file that is no text, and none at all."""
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.toml: (is not TOML|cannot be read)"):
        load_settings(path)


@pytest.mark.parametrize("override", ["optimizer.block_size", "block_size=3", "=3", ".a=3"])
def test_an_override_names_table_key_and_value(tmp_path: Path, override: str) -> None:
    """Anything else is told."""
    with pytest.raises(InputError, match=r"must read TABLE\.KEY=VALUE"):
        load_settings(_write(tmp_path, _DATA), [override])


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("stages = [1]", "stages.rounds=3", "--set stages.rounds=3: stages is no table but [1]; change the file"),
        ("", "run.threads=" + "9" * 5000, 'run.threads must be an integer, got "9999'),
        ("", "run.threads=" + "[" * 100_000, 'run.threads must be an integer, got "[[['),
        ("", "run.threads=1\nbackend = 'numpy'", r'run.threads must be an integer, got "1\nbackend'),
    ],
)
def test_overrides_that_cannot_be_meant(tmp_path: Path, text: str, override: str, message: str) -> None:
    """Nothing of them is dropped."""
    with pytest.raises(InputError) as caught:
        load_settings(_write(tmp_path, f"{text}\n{_DATA}"), [override])
    assert message in str(caught.value)


def test_overrides_are_toml_or_words(tmp_path: Path) -> None:
    """Numbers, lists and tables as in TOML; words without quotes; the last one wins."""
    overrides = [
        "optimizer.mode=vector",
        "optimizer.mode=pinned",
        "model.fitting=[3, 4]",
        "data.train=[]",
        "data.train=b",
    ]
    settings = load_settings(_write(tmp_path, _DATA), overrides)
    assert settings.optimizer.mode == "pinned"  # type: ignore[attr-defined]
    assert settings.model.fitting == [3, 4]  # type: ignore[attr-defined]
    assert settings.data.train == [str(tmp_path / "b")]


def test_every_setting_of_filter_and_adam_is_a_key() -> None:
    """A field that is added to one of them cannot be forgotten in CONFIG, nor a key stay that nothing has."""
    from dataclasses import fields

    from ekfcore.config import EKFConfig
    from ekfcore.noise import AdaptiveNoise
    from ekfcore.presets import Recipe
    from ekfcore.training import AdamSettings
    from ekfcore.training.optimizer_settings import OptimizerSettings

    names = {kind: {field.name for field in fields(kind)} for kind in (Recipe, EKFConfig, AdamSettings)}
    own = {"preset", "memory", "memory_rate", "memory_counts"} | {f"noise_{f.name}" for f in fields(AdaptiveNoise)}
    assert set(OptimizerSettings.model_fields) == set.union(*names.values()) - {"config"} | own
