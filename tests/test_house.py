"""The rules of the house: who imports whom, what an import does, what is exported, what is packed."""

import ast
import importlib
import importlib.metadata
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import macurr
from tests.support.scripts import ROOT, assert_succeeded, run_python

FOLDERS = ("curricula", "wrappers")


def _packages():
    """The dotted names of macurr and its packages, those behind the links included."""
    found = []
    for folder, _, files in os.walk(ROOT / "macurr", followlinks=True):
        if "__init__.py" in files:
            found.append(".".join(Path(folder).relative_to(ROOT).parts))
    return sorted(found)


# --- imports -----------------------------------------------------------------------------------------------


def test_every_module_imports_only_layers_below_it(tmp_path):
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    assert_succeeded(run_python(["-c", code], cwd=ROOT))


_PROBE = """
import json, os, signal, sys, threading, warnings
import cloudpickle, gymnasium, numpy, pettingzoo, safetensors.numpy
import multiprocessing.connection

effects = []
EVENTS = {"os.exec", "os.fork", "os.forkpty", "os.mkdir", "os.posix_spawn", "os.putenv", "os.system", "mmap.__new__",
          "socket.__new__", "subprocess.Popen", "_thread.start_new_thread", "_thread.start_joinable_thread"}

def settings():
    key, *state = numpy.random.get_state(legacy=True)[1:3]
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    return [key.tolist(), state, numpy.geterr(), handlers, len(warnings.filters), threading.active_count()]

def hook(event, args):
    if event in EVENTS or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        effects.append([event, str(args[0])])

before = settings()
sys.addaudithook(hook)
import MODULE
after = settings()
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"effects": effects, "unchanged": before == after, "loaded": loaded}))
"""

_HEAVY = {
    "torch",
    "ray",
    "supersuit",
    "matplotlib",
    "tensorboard",
    "rich",
    "mpe2",
    "pygame",
    "yaml",
    "filelock",
}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("macurr", _HEAVY | {"scipy"}), ("macurr.curricula", _HEAVY), ("macurr.wrappers", _HEAVY)],
)
def test_import_is_light_and_does_nothing_else(module, unwanted, tmp_path):
    result = run_python(["-c", _PROBE.replace("MODULE", module)], cwd=tmp_path)
    assert_succeeded(result)
    seen = json.loads(result.stdout)
    assert not unwanted.intersection(seen["loaded"])
    assert seen["effects"] == []
    assert seen["unchanged"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_refuse_their_top_level_name(folder, tmp_path):
    result = run_python(["-c", f"import {folder}"], cwd=tmp_path)
    assert result.returncode == 1
    assert f"Import it as 'macurr.{folder}'" in result.stderr


@pytest.mark.parametrize("links", ["absent", "text files"])
def test_folders_are_found_where_links_are_not_to_be_had(links, tmp_path):
    leave = shutil.ignore_patterns("__pycache__", *FOLDERS)
    shutil.copytree(ROOT / "macurr", tmp_path / "macurr", ignore=leave)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder)
        if links == "text files":  # what git writes on Windows
            (tmp_path / "macurr" / folder).write_text(f"../{folder}")
    assert _homes(tmp_path) == [str(tmp_path / name / "__init__.py") for name in ("macurr", *FOLDERS)]


def _homes(path):
    """The files that macurr and its two folders come from, imported from this place first."""
    code = "import macurr, macurr.curricula as c, macurr.wrappers as w; print(macurr.__file__, c.__file__, w.__file__)"
    result = run_python(["-c", code], cwd=path, path=path)
    assert_succeeded(result)
    return result.stdout.split()


# --- public names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _packages())
def test_exported_names_are_exactly_the_public_ones(name):
    package = importlib.import_module(name)
    exported = package.__all__
    assert len(set(exported)) == len(exported)
    for each in exported:
        assert getattr(package, each) is not None
    public = {
        each
        for each, value in vars(package).items()
        if not each.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public - set(exported) <= {"annotations", "TYPE_CHECKING"}


def test_version_is_that_of_the_distribution():
    assert macurr.__version__ == importlib.metadata.version("macurr")


def _scripts():
    return sorted([*ROOT.glob("examples/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])


def _imported_names(path):
    """Every (module, name) of macurr that a script imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "macurr":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (alias.name, None) for alias in node.names if alias.name.partition(".")[0] == "macurr"
            )


def test_examples_and_benchmarks_see_only_public_names():
    for script in _scripts():
        for module, name in _imported_names(script):
            assert module in _packages(), f"{script.name}: {module} is not a public package"
            exported = importlib.import_module(module).__all__
            assert name is None or name in exported, f"{script.name}: {module}.{name} is not public"


# --- packages ----------------------------------------------------------------------------------------------


def _library_files():
    """Where each file of the library has to be once it is installed."""
    files = set()
    for top, target in (("macurr", "macurr"), *((folder, f"macurr/{folder}") for folder in FOLDERS)):
        for path in (ROOT / top).rglob("*"):
            inside = path.relative_to(ROOT / top)
            linked = top == "macurr" and inside.parts[0] in FOLDERS
            if path.is_file() and not linked and "__pycache__" not in inside.parts:
                files.add(f"{target}/{inside.as_posix()}")
    return files


def _build(source, target, *kinds):
    arguments = ["-m", "hatchling", "build", "-d", target]
    for kind in kinds:
        arguments += ["-t", kind]
    assert_succeeded(run_python(arguments, cwd=source, path=None))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist of the checkout, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    _build(ROOT, folder, "sdist", "wheel")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    _build(source, folder / "again", "wheel")
    (wheel,), (again,) = folder.glob("*.whl"), (folder / "again").glob("*.whl")
    return wheel, source, again


def _contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.xdist_group("packaging")
def test_groups_of_tests_are_told_to_the_scheduler(request):
    # Only a worker of pytest-xdist knows of the option.
    grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@packaging") == grouped


@pytest.mark.xdist_group("packaging")
def test_wheel_holds_each_file_of_the_library_once_and_nothing_else(built):
    names = _contents(built[0])
    assert len(set(names)) == len(names)
    assert {name for name in names if ".dist-info/" not in name} == _library_files()
    assert {"macurr/curricula/__init__.py", "macurr/wrappers/__init__.py", "macurr/py.typed"} <= set(names)


@pytest.mark.xdist_group("packaging")
def test_sdist_gives_the_same_wheel_and_brings_the_tests(built):
    wheel, source, again = built
    assert _contents(again) == _contents(wheel)
    assert (source / "tests" / "test_house.py").is_file()
    assert (source / ".ci" / "run").is_file()
    assert not (source / "macurr" / "curricula").exists()


@pytest.mark.xdist_group("packaging")
def test_wheel_works_away_from_the_checkout(built, tmp_path):
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(tmp_path)
    places = ("macurr", "macurr/curricula", "macurr/wrappers")
    assert _homes(tmp_path) == [str(tmp_path / place / "__init__.py") for place in places]


@pytest.mark.xdist_group("packaging")
def test_editable_install_is_a_path_and_copies_nothing(tmp_path):
    code = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    assert_succeeded(run_python(["-c", code, tmp_path], cwd=ROOT, path=None))
    (wheel,) = tmp_path.glob("*.whl")
    assert [name for name in _contents(wheel) if ".dist-info/" not in name] == ["_macurr.pth"]
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("_macurr.pth").decode() == str(ROOT)


def test_command_leads_to_a_function():
    (command,) = importlib.metadata.distribution("macurr").entry_points.select(group="console_scripts")
    assert command.name == "macurr"
    assert callable(command.load())
