"""The Debian package: what it adds, what keeps it alive, what it leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import package, payload

from .. import former
from .overlay import Overlay, listed_modules

pytestmark = pytest.mark.daemon

SITE = "usr/lib/python3/dist-packages"
SCHEMA = f"{SITE}/cloudinit/config/schemas/schema-cloud-config-v1.json"
DROP_IN = "etc/cloud/cloud.cfg.d/95_source_routing.cfg"

FINDS_AND_CALLS = (
    'python3 -c "from cloudinit.config import modules; '
    "found = modules.Modules.__new__(modules.Modules)._fixup_modules([{'mod': 'source_routing'}]); "
    "found[0][0].handle('source_routing', {}, None, None, [])\""
)


@pytest.fixture
def root(plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> Overlay:
    return overlay(plain("bookworm"))


def _install(root: Overlay, deb: Path) -> str:
    root.write("tmp/package.deb", deb.read_bytes())
    told = root.must("dpkg --install /tmp/package.deb")
    (root.upper / "tmp/package.deb").unlink()
    return told


def _knows(root: Overlay) -> bool:
    return "source_routing" in json.dumps(json.loads(root.read(SCHEMA)))


def _newer_cloud_init(root: Overlay, directory: Path) -> Path:
    """The cloud-init of `root` again, newer, with a key and a module more."""
    stage = directory / "cloud-init"
    files = root.must("dpkg-query --listfiles cloud-init").splitlines()
    for path in sorted(set(files)):
        source, target = root.lower / path.lstrip("/"), stage / path.lstrip("/")
        if source.is_dir():  # also /lib, a link
            target.mkdir(parents=True, exist_ok=True)
        elif source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    known = json.loads((stage / SCHEMA).read_text())
    known["$defs"]["cc_of_tomorrow"] = {"type": "object", "properties": {"of_tomorrow": {}}}
    (stage / SCHEMA).write_text(json.dumps(known, indent=2))
    config = stage / "etc/cloud/cloud.cfg"
    text = config.read_text()
    assert " - set_hostname\n" in text
    config.write_text(text.replace(" - set_hostname\n", " - set_hostname\n - seed_random\n"))
    info = root.lower / "var/lib/dpkg/info"
    (stage / "DEBIAN").mkdir()
    for script in info.glob("cloud-init.*"):
        if script.suffix in (".conffiles", ".triggers", ".postinst", ".prerm", ".postrm"):
            shutil.copy2(script, stage / "DEBIAN" / script.suffix[1:])
    stanza = root.must("dpkg-query --status cloud-init").splitlines()
    kept, skipping = [], False
    for line in stanza:
        if not line.startswith(" "):
            skipping = line.split(":")[0] in ("Status", "Conffiles")
        if not skipping:
            kept.append(f"{line}+tomorrow" if line.startswith("Version:") else line)
    (stage / "DEBIAN/control").write_text("\n".join(kept) + "\n")
    target = directory / "cloud-init.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", stage, target]
    subprocess.run(argv, check=True, capture_output=True)
    return target


def test_lintian_finds_nothing_that_is_not_explained(deb: Path) -> None:
    argv = ["lintian", "--allow-root", "--info", "--display-info", "--fail-on", "info", deb]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_same_checkout_gives_the_same_package(deb: Path, tmp_path: Path) -> None:
    again = package.build(tmp_path)
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()


def test_it_has_every_file_of_the_python_package(deb: Path) -> None:
    told = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True
    ).stdout
    listed = subprocess.run(["tar", "-t"], input=told, capture_output=True, check=True).stdout
    paths = set(listed.decode().splitlines())
    for name in payload.modules():
        assert f"./{SITE}/{name}" in paths
    assert "./usr/bin/source-routing" in paths
    own = [*payload.registration("/usr/bin/python3"), *payload.units()]
    assert [path for path in own if f".{path}" not in paths] == []


def test_the_module_is_registered_and_the_distributions_files_verify(
    root: Overlay, deb: Path
) -> None:
    before = listed_modules(root)
    _install(root, deb)
    assert listed_modules(root) == [*before, "source_routing"]
    assert _knows(root)
    root.must(FINDS_AND_CALLS)
    root.must("source-routing --help")
    assert root.must("dpkg --verify cloud-init source-routing") == ""


UTIL = f"/{SITE}/cloudinit/util.py"


@pytest.mark.parametrize(
    ("halfway", "sentence"),
    [
        (f"rm {UTIL}", "cloud-init is not whole ("),
        (f"head -c 20000 {UTIL} >/tmp/half; cp /tmp/half {UTIL}", "cloud-init is not whole ("),
        (f"rm -r /{SITE}/cloudinit", "cloud-init is not whole ("),
        (f": >/{SCHEMA}.distrib", "cloud-init's schema is no JSON"),
    ],
    ids=["a module is missing", "a module is cut off", "nothing is there", "an empty schema"],
)
def test_while_cloud_init_is_half_unpacked_that_is_a_sentence_and_nothing_changes(
    root: Overlay, deb: Path, halfway: str, sentence: str
) -> None:
    _install(root, deb)
    before = root.read(DROP_IN)
    root.must(halfway)
    for option in ("--check", ""):
        done = root.inside(f"/usr/lib/source-routing/register {option}")
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        assert f"register: {sentence}" in done.stderr
    assert root.read(DROP_IN) == before


def test_a_purge_leaves_no_trace(root: Overlay, deb: Path) -> None:
    _install(root, deb)
    assert root.traces() != []
    # What a server has rendered by then goes too.
    root.write("etc/source-routing/stanza.json", '{"enabled": true}\n')
    root.must("systemctl enable source-routing.timer")
    root.must("dpkg --purge source-routing")
    assert root.traces() == []
    assert root.must("dpkg-divert --list | grep source || true") == ""


def test_an_upgrade_in_an_image_is_silent_and_leaves_no_module_of_the_old(
    root: Overlay, deb: Path, former_tree: Path, tmp_path: Path
) -> None:
    _install(root, former.deb(former_tree, tmp_path))
    root.must("systemctl enable source-routing.timer")
    root.write("tmp/package.deb", deb.read_bytes())
    done = root.inside("dpkg --install /tmp/package.deb")
    assert (done.returncode, done.stderr) == (0, "")
    package = root.upper / SITE / "cc_source_routing"
    sources = {str(path.relative_to(root.upper / SITE)) for path in package.rglob("*.py")}
    assert sources == {name for name in payload.modules() if name.endswith(".py")}
    # Each is compiled anew, so what was compiled of the old ones is gone, too.
    assert len(list(package.rglob("*.pyc"))) == len(sources)
    assert root.must("systemctl is-enabled source-routing.timer") == "enabled\n"
    assert root.must("dpkg --verify source-routing") == ""


# $ROOT as the root of an init process that is systemd, or of a process beside it.
RUNS = 'mount -t proc proc "$ROOT/proc"; mkdir -p "$ROOT/run/systemd/system"; '
BESIDE = f'{RUNS} chroot "$ROOT" /usr/lib/source-routing/listening restart; exit $?'
BOOTED = f'{RUNS} exec chroot "$ROOT" /usr/lib/source-routing/listening restart'


def _called(root: Overlay, script: str, status: int) -> tuple[int, list[str]]:
    """The exit code of `script`, and whom it had called, of whom each ends with `status`."""
    for name in ("systemctl", "source-routing"):
        text = f'#!/bin/sh\necho "{name} $*" >>/calls\nexit {status}\n'
        root.write(f"usr/local/sbin/{name}", text, 0o755)
    root.write("calls", "")
    done = root.host(script)
    assert (done.stdout, done.stderr) == ("", "")
    return done.returncode, root.read("calls").splitlines()


def test_a_server_goes_on_with_new_files_and_a_root_beside_it_is_left_alone(
    root: Overlay, deb: Path
) -> None:
    _install(root, deb)
    assert _called(root, BESIDE, 0) == (0, [])
    code, calls = _called(root, BOOTED, 0)
    assert code == 0 and "source-routing apply --again" in calls
    assert " start source-routing.socket source-routing.path " in calls[-1]


def test_whatever_fails_it_listens_again_and_says_so(root: Overlay, deb: Path) -> None:
    _install(root, deb)
    code, calls = _called(root, BOOTED, 1)
    assert code == 1
    assert " start source-routing.socket source-routing.path " in calls[-1]


def test_after_an_upgrade_of_cloud_init_all_is_there_and_up_to_date(
    root: Overlay, deb: Path, tmp_path: Path
) -> None:
    _install(root, deb)
    before = listed_modules(root)
    newer = _newer_cloud_init(root, tmp_path)
    root.write("tmp/newer.deb", newer.read_bytes())
    root.must("dpkg --install --force-confnew /tmp/newer.deb")
    assert root.must("dpkg-query -W -f '${Version}' cloud-init").endswith("+tomorrow")
    listed = listed_modules(root)
    assert listed[-1] == "source_routing" and set(before) <= set(listed)
    assert listed.count("seed_random") == 2, "the list is the old release's"
    assert _knows(root)
    assert "of_tomorrow" in root.read(SCHEMA), "the schema is the old release's"
    root.must(FINDS_AND_CALLS)
    assert root.must("/usr/lib/source-routing/register --check") == ""
    assert root.must("dpkg --verify cloud-init") == ""
    # And back: the new release's own, not the one that we began with.
    root.must("dpkg --purge source-routing")
    assert "of_tomorrow" in root.read(SCHEMA) and not _knows(root)
    assert "source_routing" not in listed_modules(root)
    assert root.must("dpkg --verify cloud-init") == ""


def test_a_list_of_ones_own_does_not_stop_upgrades_but_is_told(
    root: Overlay, deb: Path, tmp_path: Path
) -> None:
    _install(root, deb)
    root.write("etc/cloud/cloud.cfg.d/99_own.cfg", "cloud_init_modules: [bootcmd, ssh]\n")
    root.write("tmp/newer.deb", _newer_cloud_init(root, tmp_path).read_bytes())
    done = root.inside("dpkg --install --force-confnew /tmp/newer.deb")
    assert done.returncode == 0
    assert "99_own.cfg would replace our list" in done.stderr
    assert _knows(root)


def test_the_package_and_the_installer_do_not_mix(root: Overlay, deb: Path) -> None:
    installer = payload.CHECKOUT / "image-build/install-into"
    assert root.host(f'"{installer}" "$ROOT"').returncode == 0
    root.write("tmp/package.deb", deb.read_bytes())
    done = root.inside("dpkg --install /tmp/package.deb")
    assert done.returncode != 0 and "--uninstall" in done.stderr
    assert root.host(f'"{installer}" "$ROOT" --uninstall').returncode == 0
    root.must("dpkg --install /tmp/package.deb")
    done = root.host(f'"{installer}" "$ROOT"')
    assert done.returncode == 1 and "installed by something else" in done.stderr


def test_what_the_installer_put_there_survives_an_upgrade_of_cloud_init_too(
    root: Overlay, tmp_path: Path
) -> None:
    installer = payload.CHECKOUT / "image-build/install-into"
    assert root.host(f'"{installer}" "$ROOT"').returncode == 0
    root.write("tmp/newer.deb", _newer_cloud_init(root, tmp_path).read_bytes())
    root.must("dpkg --install --force-confnew /tmp/newer.deb")
    assert (
        listed_modules(root).count("seed_random") == 2
        and listed_modules(root)[-1] == "source_routing"
    )
    assert _knows(root) and "of_tomorrow" in root.read(SCHEMA)
