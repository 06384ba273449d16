"""Settings that nobody would mean: taken, or one line that names the key; never a traceback, nor a library's words."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("pydantic", reason="needs the extra atoms")
pytest.importorskip("ase", reason="needs the extra active")
pytest.importorskip("matplotlib", reason="needs the extra active")

from pydantic import BaseModel

from ekfcore.active.settings import LearnSettings, load_learn_settings
from ekfcore.deepmd import load_input
from ekfcore.errors import EKFError
from ekfcore.training import Settings, load_settings, prepare

_Key = tuple[str, ...]

_MODEL = {"cutoff": 4.0, "embedding": [4], "axis": 2, "fitting": [6]}
_TRAIN: dict[str, Any] = {
    "data": {"train": "copper.xyz"},
    "model": _MODEL,
    "optimizer": {"block_size": 40},
    "training": {"epochs": 2},
}
_LEARN: dict[str, Any] = {
    "data": {"structures": ["copper.xyz"], "train": ["copper.xyz"]},
    "stages": [{"temperatures": [300.0]}],
    "label": {"calculator": "emt"},
    "model": _MODEL,
    "explore": {"steps": 20},
}
_INPUT: dict[str, Any] = {
    "model": {
        "type_map": ["Cu"],
        "descriptor": {"type": "se_e2_a", "sel": [24], "rcut": 4, "rcut_smth": 1.0, "neuron": [4], "axis_neuron": 2},
        "fitting_net": {"neuron": [6], "resnet_dt": False, "seed": 1},
    },
    "learning_rate": {"type": "exp", "decay_steps": 2, "start_lr": 0.01, "stop_lr": 1e-4},
    "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 100, "limit_pref_f": 1},
    "optimizer": {"type": "LKF", "kf_blocksize": 40, "kf_start_pref_f": 2},
    "training": {"training_data": {"systems": ["copper.xyz"], "batch_size": 1}, "numb_steps": 17, "seed": 10},
}
_VERSION_1 = {
    **{name: _INPUT[name] for name in ("model", "learning_rate", "loss")},
    "training": {"systems": ["copper.xyz"], "set_prefix": "set", "batch_size": 2, "stop_batch": 17, "opt_type": "LKF"},
}
_LIBRARIES = re.compile(
    r"pydantic|should be|KeyError|validation error|has no attribute|unexpected keyword|NoneType|<class"
)

_strange = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324, -1, 0, 1, 2, 0.5, 10**30, -(2**70)]),
    st.sampled_from(
        ["", "x", "auto", "a\nb", "a\0b", "Cu", "é" * 200, "copper.xyz", "none.xyz", ".", "/dev/null", "*"]
    ),
    st.sampled_from(
        ["adam", "rlekf", "global", "adaptive", "all", "float32", "model.npz", "copper.xyz#a", "~nobody/x"]
    ),
    st.booleans(),
    st.sampled_from(
        [[], [[]], [1], [-1], [0], [math.nan], ["Cu"], ["Cu", "Cu"], ["Xx"], {}, {"a": 1}, {"Cu": math.nan}, [{}]]
    ),
    st.sampled_from([{"path": "copper.xyz"}, {"path": 5}, [{"path": "copper.xyz", "weight": -1}], {"object": "os:x"}]),
    st.recursive(
        st.integers() | st.floats() | st.text(max_size=8),
        lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
        max_leaves=5,
    ),
)


def _keys_of(table: type[BaseModel], above: _Key = ()) -> Iterator[_Key]:
    for name, field in table.model_fields.items():
        yield (*above, name)
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys_of(kind, (*above, name))


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _keys_in(tables: dict[str, Any], above: _Key = ()) -> Iterator[_Key]:
    for name, value in tables.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _keys_in(value, (*above, name))


def _changed(tables: dict[str, Any], key: _Key, value: Any) -> dict[str, Any]:
    """Return the tables with another value of a key, whatever stood above it."""
    tables = copy.deepcopy(tables)
    node = tables
    for name in key[:-1]:
        part = node.get(name)
        part = part[0] if isinstance(part, list) and part else part
        node = part if isinstance(part, dict) else node.setdefault(name + "_", {})
    node[key[-1]] = value
    return tables


def _toml(value: Any) -> str:
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(part)}" for key, part in value.items()) + "}"
    return str(value)


def _write(folder: Path, tables: dict[str, Any], *, as_json: bool = False) -> Path:
    path = folder / ("c.json" if as_json else "c.toml")
    text = (
        json.dumps(tables) if as_json else "".join(f"{_toml(name)} = {_toml(part)}\n" for name, part in tables.items())
    )
    path.write_bytes(text.encode(errors="surrogatepass"))
    return path


def _told(call: Callable[[], Any]) -> str:
    """Return the message of a refusal, in our words, or nothing."""
    try:
        call()
    except EKFError as error:
        told = str(error)
    else:
        return ""
    assert told
    assert "\n" not in told
    return told


def _check(told: str, key: _Key) -> None:
    assert (
        not told or any(name.removesuffix("_") in told for name in key) or "no such file" in told or "cannot be" in told
    )
    assert not _LIBRARIES.search(told), told


_LOADERS: dict[str, tuple[dict[str, Any], list[_Key], Callable[..., Any]]] = {
    "train": (_TRAIN, list(_keys_of(Settings)), load_settings),
    "learn": (_LEARN, list(_keys_of(LearnSettings)), lambda path, sets=(): load_learn_settings(path, list(sets))),
    "input.json": (_INPUT, [*_keys_in(_INPUT), ("training", "validation_data"), ("training", "rglob")], load_input),
    "version 1": (_VERSION_1, list(_keys_in(_VERSION_1)), load_input),
}


@pytest.mark.parametrize("kind", _LOADERS)
@given(data=st.data())
def test_values(kind: str, config: Path, data: st.DataObject) -> None:
    """In a file, and for a key that is misspelled."""
    tables, keys, load = _LOADERS[kind]
    key = data.draw(st.sampled_from(keys))
    key = (*key[:-1], key[-1] + data.draw(st.sampled_from(["", "", "", "x"])))
    changed = _changed(tables, key, data.draw(_strange))
    _check(_told(lambda: load(_write(config.parent, changed, as_json=load is load_input))), key)


@pytest.mark.parametrize("kind", ["train", "learn"])
@given(data=st.data())
def test_overrides(kind: str, config: Path, data: st.DataObject) -> None:
    """On the command line, as TOML or not."""
    tables, keys, load = _LOADERS[kind]
    key, value = data.draw(st.sampled_from(keys)), data.draw(_strange)
    text = _toml(value) if data.draw(st.booleans()) else str(value)
    _check(_told(lambda: load(_write(config.parent, tables), [f"{'.'.join(key)}={text}"])), (*key, "--set"))


@pytest.mark.parametrize("kind", _LOADERS)
@given(content=st.binary(max_size=60), cut=st.floats(0, 1), data=st.data())
@example(content=b"\xff\xfe", cut=0.0, data=None)
def test_bytes(kind: str, config: Path, content: bytes, cut: float, data: st.DataObject | None) -> None:
    """A file that is cut off and goes on with anything, also where it is no text."""
    tables, _, load = _LOADERS[kind]
    path = _write(config.parent, tables, as_json=load is load_input)
    before = path.read_bytes()
    path.write_bytes(before[: int(cut * len(before))] + content)
    told = _told(lambda: load(path))
    assert not told or str(path) in told or "no such file" in told
    assert not _LIBRARIES.search(told), told


@given(data=st.data())
def test_one_step(config: Path, data: st.DataObject) -> None:
    """What is taken can be trained with, or is refused then."""
    key = data.draw(
        st.sampled_from([key for key in _LOADERS["train"][1] if key[0] in ("model", "optimizer", "training")])
    )
    path = _write(config.parent, _changed(_TRAIN, key, data.draw(_strange)))

    def train() -> None:
        settings = load_settings(path)
        prepare(settings, config.parent / f"run-{data.draw(st.uuids())}").run(should_stop=lambda: True)

    _check(_told(train), (*key, "update 0"))


def test_folders(config: Path, refuse: Callable[..., str]) -> None:
    """Where a file should be."""
    for command in ("train", "learn", "inspect"):
        for name in ("a.toml", "a.json"):
            (config.parent / name).mkdir(exist_ok=True)
            assert name in refuse(command, config.parent / name)
