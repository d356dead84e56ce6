"""The directions in which modules may know each other, and what an import costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "cc_source_routing"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)
# Which room knows which others; all know the model, the errors and the version.
ROOMS = {
    "text": set(),
    "files": set(),
    "stanza": {"text"},
    "plan": {"text"},
    "render": {"plan", "files", "text"},
    "kernel": {"plan", "files", "text"},
    "host": {"kernel", "stanza", "files", "text"},
    "engine": {"host", "kernel", "render", "plan", "files"},
    "follow": {"engine", "kernel", "files", "text"},
    "cloud_init": {"engine", "host", "stanza"},
    "cli": {"follow", "engine", "host", "kernel", "render", "plan", "stanza", "files", "text"},
    "__init__": {"cloud_init"},
    "__main__": {"cli"},
    "model": set(),
    "errors": set(),
    "version": set(),
}
EVERYWHERE = {"model", "errors", "version"}
# No I/O, no kernel, no cloud-init: whole rooms and single modules.
PURE = {"text", "plan", "model", "errors", "kernel.diff", "kernel.messages", "kernel.needed_routes"}
PURE |= {"cli.narrate", "cli.views"}
PURE |= {f"follow.{name}" for name in ("events", "flaps", "networkd", "pace", "repeats")}
PURE |= {f"stanza.{name}" for name in ("bounded", "merging", "messages", "parts", "saved")}
IMPURE_LIBRARIES = {"socket", "subprocess", "os", "cloudinit", "pyroute2", "shutil", "urllib"}


def imported(path: Path, top_level_only: bool = False):
    """Names of imported modules; ours from the package on, as ``.plan.rules``."""
    found = set()
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - (node.level - 1)]
            module = [*base, *(node.module.split(".") if node.module else [])]
            folder = PACKAGE.joinpath(*module).is_dir()
            names = [[*module, alias.name] for alias in node.names] if folder else [module]
            found.update("." + ".".join(name) for name in names)
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(name: str) -> str:
    return name.split(".")[0]


def is_pure(name: str) -> bool:
    return name in PURE or room_of(name) in PURE


PURE_MODULES = [path for path in MODULES if is_pure(name_of(path))]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_room_knows_only_those_below_it(path):
    room = room_of(name_of(path))
    known = {room_of(name[1:]) for name in imported(path) if name.startswith(".")}
    assert known <= ROOMS[room] | EVERYWHERE | {room}


def test_the_picture_in_the_documentation_shows_the_imports_as_they_are():
    text = (PACKAGE.parent / "docs/architecture.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE))
    found = {
        (room_of(name_of(path)), room_of(name[1:]))
        for path in MODULES
        for name in imported(path)
        if name.startswith(".")
    }
    faces = {"__init__", "__main__"} | EVERYWHERE
    assert drawn == {
        (one, other) for one, other in found if one != other and not {one, other} & faces
    }


def test_each_room_is_entered_by_its_door():
    """The doors are those of the documentation, and each of them is used."""
    text = (PACKAGE.parent / "docs/architecture.md").read_text()
    doors = {
        f"{room}.{name}" if name != room else room
        for room, cell in re.findall(r"^\| `(\w+)/` \| (`[^|]*`) \|", text, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", cell)
    }
    entered = set()
    for path in MODULES:
        for name in (name[1:] for name in imported(path) if name.startswith(".")):
            if room_of(name) in {room_of(name_of(path)), *EVERYWHERE}:
                continue
            is_module = PACKAGE.joinpath(*name.split(".")).with_suffix(".py").exists()
            # What is no module is a name of the room itself.
            entered.add(name if is_module else room_of(name))
    alone = {name for name in entered if PACKAGE.joinpath(f"{name}.py").exists()}
    assert entered - alone == doors


def test_the_arrows_run_one_way():
    """No room is reached from itself by others."""

    def below(room, way=()):
        assert room not in way, f"a circle: {' -> '.join((*way, room))}"
        return {room}.union(*(below(other, (*way, room)) for other in ROOMS[room]))

    for room in ROOMS:
        below(room)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_netlink_edge_imports_pyroute2(path):
    if name_of(path) != "kernel.rtnl":
        assert "pyroute2" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_edge_runs_commands(path):
    if path.name != "commands.py":
        assert "subprocess" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_needs_cloud_init(path):
    assert "cloudinit" not in imported(path)


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_the_core_does_no_io(path):
    assert not imported(path) & IMPURE_LIBRARIES


# What an outcome looks like is the engine's.
CORE = [path for path in PURE_MODULES if name_of(path) != "cli.views"]


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_only_the_core(path):
    own = {name[1:] for name in imported(path) if name.startswith(".")}
    assert all(map(is_pure, own)), own


def test_netlink_is_imported_only_where_it_is_used():
    """pyroute2 costs a tenth of a second or more: never at the import of anything else."""
    netlink = {"kernel.rtnl", "kernel.netlink", "kernel.listen"}
    for path in MODULES:
        if name_of(path) not in netlink:
            found = {name[1:] for name in imported(path, top_level_only=True)}
            assert not found & netlink, path.name


def test_nothing_is_called_schema():
    """cloud-init takes such an attribute for its own schema and drops the whole stage."""
    import cc_source_routing

    assert not hasattr(cc_source_routing, "schema")
    assert not (PACKAGE / "schema.py").exists() and not (PACKAGE / "schema").exists()


def loaded_by(code: str, *options: str) -> set[str]:
    """The modules that a fresh Python has loaded after `code`."""
    result = subprocess.run(
        [sys.executable, *options, "-c", f"import sys\n{code}\nprint(*sorted(sys.modules))"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_importing_the_package_needs_the_standard_library_alone():
    loaded = loaded_by("import cc_source_routing", "-S")
    assert not loaded & {"pyroute2", "jinja2", "jsonschema", "yaml", "cloudinit", "logging"}


def test_the_saved_stanza_is_read_without_validator_and_yaml(tmp_path):
    """`apply --again`, each event's run, goes by it: an import of these costs 40 ms and more."""
    saved = tmp_path / "etc/source-routing/stanza.json"
    saved.parent.mkdir(parents=True)
    saved.write_text('{"interfaces": {"ens4": {"gateway4": "10.13.96.1"}}}\n')
    loaded = loaded_by(
        "from pathlib import Path\n"
        "from cc_source_routing import engine\n"
        "from cc_source_routing.cli import main\n"
        f"stanza = engine.saved_stanza(Path({str(tmp_path)!r}))\n"
        "assert str(stanza.interfaces[0].gateway4) == '10.13.96.1'"
    )
    assert not loaded & {"jsonschema", "yaml"}
    assert {name for name in loaded if name.startswith("cc_source_routing.stanza.")} == {
        "cc_source_routing.stanza.saved"
    }
