"""What must hold for every module, whoever wrote it: packaging, names, import direction, examples."""

import ast
import doctest
import graphlib
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"ekfcore": "ekfcore", "ekfcore.backends": "backends", "ekfcore.models": "models"}
OPTIONAL = {"array_api_strict", "ase", "cupy", "dask", "deepmd", "distributed", "dpdata"}
OPTIONAL |= {"executorlib", "h5py", "jax", "llvmlite", "matplotlib", "numba", "phonopy", "psutil", "pydantic", "rich"}
OPTIONAL |= {"scipy", "tblite", "threadpoolctl", "torch", "vesin"}


def _sources() -> dict[str, Path]:
    """Return the source file of every module in the repository by import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


SOURCES = _sources()
MODULES = [name for name in SOURCES if not name.endswith("__main__")]  # importing that one would run it
PUBLIC = [
    name
    for name in MODULES
    if "._" not in name and SOURCES[name].name != "__init__.py" and not name.startswith("ekfcore.cli.")
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAT = [name for name, path in SOURCES.items() if path.parent == ROOT / "ekfcore"]


def _import(name: str) -> ModuleType:
    """Import a module, or skip if it needs an optional package that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = {package for package in OPTIONAL if importlib.util.find_spec(package) is None}
        if missing & {(error.name or "").partition(".")[0], *re.findall(r"\w+", str(error))}:
            pytest.skip(f"{name} needs an optional package: {error}")
        raise


def test_every_package_is_declared() -> None:
    """A sub-package that pyproject.toml forgets is missing from the wheel without a word."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    homes = {path.parent for path in SOURCES.values()}
    assert not [str(home) for home in homes if not (home / "__init__.py").exists()], "a folder has no __init__.py"
    assert sorted(setuptools["packages"]) == sorted(on_disk)


def test_every_kernel_is_package_data() -> None:
    """Files that are no Python are missing from the wheel unless pyproject.toml names them."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.cu"):
            home = ".".join((package, *path.relative_to(ROOT / folder).parts[:-1]))
            assert any(path.match(pattern) for pattern in setuptools["package-data"].get(home, []))


def test_every_import_is_declared() -> None:
    """What a module imports comes with Python, with ekfcore or with one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = chain(project["dependencies"], *project["optional-dependencies"].values())
    packages = {re.split(r"[\[<>=]", requirement)[0].replace("-", "_") for requirement in declared}
    packages |= {"cupy", "deepmd"}  # cupy-cuda12x, deepmd-kit
    used = {target.partition(".")[0]: name for name in SOURCES for target in _imported(name)}
    assert {package: name for package, name in used.items() if package not in packages | sys.stdlib_module_names} == {}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_and_exports_what_it_says(name: str) -> None:
    """Every module can be imported and has each name of its `__all__`."""
    module = _import(name)
    assert not [public for public in getattr(module, "__all__", []) if not hasattr(module, public)]


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_the_public_names(name: str) -> None:
    """`__all__` holds the public names that a module defines; an `__init__` may pass others on."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    if SOURCES[name].name == "__init__.py" and len(tree.body) <= 1:
        return  # nothing but a docstring
    exported = _literal_all(tree)
    assert exported is not None, f"{name} has no __all__"
    passed_on = set(_imported_names(tree)) & set(exported) if SOURCES[name].name == "__init__.py" else set()
    assert sorted(exported) == sorted(passed_on | {n for n in _defined(tree.body) if not n.startswith("_")})


def _literal_all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id == "__all__":
            assert node.value is not None
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements at module level bind."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _defined(inner + other)


def test_no_module_is_imported_twice() -> None:
    """A file that is in `sys.modules` under two names has two copies of each class, which never compare equal."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # test_module_imports_and_exports_what_it_says tells whether that is right
    homes = tuple(str(Path(path).resolve()) for root in FOLDERS for path in importlib.import_module(root).__path__)
    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        path = str(Path(getattr(module, "__file__", None) or "-").resolve())
        if path.startswith(homes):
            names[path].add(name)
    assert len(names) > len(FOLDERS)
    assert not {path: found for path, found in names.items() if len(found) > 1}


def test_core_needs_numpy_and_array_api_compat_only(tmp_path: Path) -> None:
    """`import ekfcore` is light, and silent even when warnings are errors."""
    code = f"import sys, ekfcore; print(*sorted({OPTIONAL!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


LAYERS = {
    # each room, and the rooms that its files may import, beside their own and the flat files ("core")
    "core": set(),
    "settings": set(),
    "compiling": set(),
    "atoms": set(),
    "demo": set(),
    "distributed": set(),
    "torch": {"distributed"},
    "backends": {"compiling"},
    "models": {"compiling", "atoms", "settings"},
    "potentials": {"models", "atoms", "settings"},
    "training": {"distributed", "potentials", "models", "atoms", "settings"},
    "labelling": {"atoms", "settings"},
    "properties": {"atoms"},
    "dynamics": {"potentials", "atoms", "settings"},
    "deepmd": {"training", "potentials", "models", "atoms", "settings"},
    "active": {"dynamics", "labelling", "training", "potentials", "models", "atoms", "settings"},
    "plots": {"active", "properties", "training", "potentials", "atoms"},
    "cli": {"plots", "active", "deepmd", "models", "properties", "labelling", "training", "potentials", "compiling"}
    | {"distributed", "atoms", "settings"},
}


def test_rooms_import_only_what_stands_below_them() -> None:
    """The folders form no circle, whether an import stands at the top, in a function or under TYPE_CHECKING."""
    assert not [
        f"{name} imports {target}"
        for name in SOURCES
        if name not in ("ekfcore", "ekfcore.__main__")  # the entrances, which show what the rooms have
        for target in _imported(name)
        if target.startswith("ekfcore.") and _room(target) not in LAYERS[_room(name)] | {_room(name), "core"}
    ]


def test_layers_have_an_order() -> None:
    """The table itself has no circle, and a room for every folder."""
    assert set(LAYERS) == {_room(name) for name in SOURCES if name != "ekfcore"}
    assert len(list(graphlib.TopologicalSorter(LAYERS).static_order())) == len(LAYERS)


@pytest.mark.parametrize("room", [room for room in LAYERS if room != "core"])
def test_readme_of_a_room_tells_what_it_imports(room: str) -> None:
    """The last sentence of each README is the line of the table."""
    folder = ROOT / FOLDERS.get(f"ekfcore.{room}", f"ekfcore/{room}")
    told = (folder / "README.md").read_text(encoding="utf-8").rpartition("It may import")[2]
    assert set(re.findall(r"`(\w+)`", told)) == LAYERS[room]


def test_the_core_stands_on_numpy_and_array_api_compat() -> None:
    """The flat files import nothing else, not even lazily."""
    allowed = {"ekfcore", "numpy", "array_api_compat", *sys.stdlib_module_names}
    for name in FLAT:
        assert {target.partition(".")[0] for target in _imported(name)} <= allowed, name


def _room(name: str) -> str:
    """Return the folder that a module stands in, or "core" for the flat files of ekfcore."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "core"


def _imported(name: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, at whatever depth."""
    path = SOURCES[name]
    home = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    """What a docstring shows is what happens."""
    assert doctest.testmod(_import(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_pages_run(path: Path) -> None:
    """README and documentation show what happens, too."""
    used = re.findall(r">>> (?:import|from) (\w+)", path.read_text(encoding="utf-8"))
    if missing := {package for package in OPTIONAL & set(used) if importlib.util.find_spec(package) is None}:
        pytest.skip(f"the examples need {', '.join(sorted(missing))}")
    assert doctest.testfile(str(path), module_relative=False, encoding="utf-8").failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_module_stands_in_the_reference(name: str) -> None:
    """A reader finds every public module on the reference page; the command line has `--help`."""
    listed = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8").split()
    assert name in listed, f"add {name} to docs/reference/index.md"
