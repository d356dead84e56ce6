"""The RPM: what is in it, and its scriptlets run by rpm itself in a root with an rpm's cloud-init.

The root is Debian's, with its dpkg-divert out of sight; the packages of the
distributions that have RPMs are not to be had here, so dependencies are not.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload

from .overlay import Overlay

pytestmark = pytest.mark.daemon

SPEC = payload.CHECKOUT / "image-build/rpm/source-routing.spec"
SITE = "usr/lib/python3/dist-packages"
SCHEMA = f"{SITE}/cloudinit/config/schemas/schema-cloud-config-v1.json"
DROP_IN = "etc/cloud/cloud.cfg.d/95_source_routing.cfg"

CLOUD_INIT = f"""\
Name: cloud-init
Version: %{{version}}
Release: 1
Summary: What we touch of it
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
%global __os_install_post %{{nil}}
%description
The files of cloud-init that an upgrade brings anew.
%install
cp -a %{{brought}}/. %{{buildroot}}
%files
/{SCHEMA}
/etc/cloud/cloud.cfg
"""


def _rpmbuild(spec: Path, top: Path, **defines: object) -> Path:
    argv = ["rpmbuild", "-bb", "--define", f"_topdir {top}"]
    for name, value in defines.items():
        argv += ["--define", f"{name} {value}"]
    done = subprocess.run([*argv, spec], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (top / "RPMS").glob("*/*.rpm")
    return built


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("rpm")
    return _rpmbuild(SPEC, top, checkout=payload.CHECKOUT, sitelib=f"/{SITE}")


def _query(rpm: Path, *options: str) -> str:
    argv = ["rpm", "--query", "--package", *options, rpm]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_it_has_every_file_and_the_version_of_the_project(rpm: Path) -> None:
    listed = set(_query(rpm, "--list").splitlines())
    expected = {f"/{SITE}/{name}" for name in payload.modules()}
    expected |= {"/usr/bin/source-routing", *payload.registration("/usr/bin/python3")}
    expected |= payload.units().keys()
    assert expected <= listed
    assert not [path for path in listed if "__pycache__" in path]
    assert _query(rpm, "--queryformat", "%{VERSION}") == payload.project().version


def test_it_asks_for_what_it_needs_and_is_triggered_by_cloud_init(rpm: Path) -> None:
    asked = _query(rpm, "--requires")
    for name in (
        "cloud-init",
        "python3-pyroute2",
        "python3-jinja2",
        "python3-jsonschema",
        "iproute",
    ):
        assert name in asked
    assert "triggerin scriptlet (using /bin/sh) -- cloud-init" in _query(rpm, "--triggers")


def _cloud_init(root: Overlay, place: Path, version: str, more: str) -> Path:
    files = place / version / "files"
    for name in (SCHEMA, "etc/cloud/cloud.cfg"):
        (files / name).parent.mkdir(parents=True)
        (files / name).write_bytes((root.lower / name).read_bytes())
    known = json.loads((files / SCHEMA).read_text())
    known["$defs"][more] = {"type": "object"}
    (files / SCHEMA).write_text(json.dumps(known))
    spec = place / f"{version}.spec"
    spec.write_text(CLOUD_INIT)
    return _rpmbuild(spec, place / version / "top", version=version, brought=files)


@pytest.fixture
def root(plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> Overlay:
    root = overlay(plain("bookworm"))
    root.must("rm /usr/bin/dpkg-divert")
    return root


def _run(root: Overlay, command: str) -> str:
    """Run rpm, and return what it and its scriptlets say.

    In the root itself would be more of the real thing, but it has no rpm.
    """
    done = root.host(
        'mount -t proc proc "$ROOT/proc"; mount --rbind /dev "$ROOT/dev"; '
        f'exec unshare --net rpm --root "$ROOT" --dbpath /var/lib/rpm --nodeps {command}'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_its_scriptlets_register_it_again_after_an_upgrade_and_take_all_back(
    rpm: Path, root: Overlay, tmp_path: Path
) -> None:
    before = set(root.traces())
    _run(root, f"--install --replacefiles {_cloud_init(root, tmp_path, '1', 'of_today')}")
    _run(root, f"--install {rpm}")
    assert "source_routing" in root.read(DROP_IN)
    assert "cc_source_routing" in root.read(SCHEMA) and "of_today" in root.read(SCHEMA)
    _run(root, f"--upgrade {_cloud_init(root, tmp_path, '2', 'of_tomorrow')}")
    assert "cc_source_routing" in root.read(SCHEMA) and "of_tomorrow" in root.read(SCHEMA)
    _run(root, "--erase source-routing")
    assert "cc_source_routing" not in root.read(SCHEMA) and "of_tomorrow" in root.read(SCHEMA)
    # /run is gone at a boot, and /usr/share/licenses is other packages' too on such systems.
    others = ("var/lib/rpm", "run/", "usr/share/licenses")
    left = {path for path in set(root.traces()) - before if not path.startswith(others)}
    assert left == {SCHEMA}  # that of the new cloud-init


def test_an_upgrade_leaves_nothing_of_the_old(
    root: Overlay, former_tree: Path, tmp_path: Path
) -> None:
    _run(root, f"--install --replacefiles {_cloud_init(root, tmp_path, '1', 'of_today')}")
    spec = former_tree / "image-build/rpm/source-routing.spec"
    old = _rpmbuild(spec, tmp_path / "old", checkout=former_tree, sitelib=f"/{SITE}")
    _run(root, f"--install {old}")
    # It has been run, and so rpm does not know of all that is there.
    root.must("python3 -c 'from cc_source_routing.render import link_events'")
    newer = {"checkout": payload.CHECKOUT, "sitelib": f"/{SITE}", "dist": ".newer"}
    new = _rpmbuild(SPEC, tmp_path / "new", **newer)
    _run(root, f"--upgrade {new}")
    package = root.upper / SITE / "cc_source_routing"
    there = {path for path in package.rglob("*") if path.is_file()}
    assert {str(path.relative_to(root.upper / SITE)) for path in there} == set(payload.modules())
    assert _run(root, "--verify source-routing") == ""
