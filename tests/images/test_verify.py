"""The verifier: silent on good images, and each broken one is told for what it is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload
from imagebuild.command import Completed, attempt

from .conftest import SUITES
from .overlay import Overlay

pytestmark = pytest.mark.daemon

VERIFY = payload.CHECKOUT / "image-build/verify"
SITE = "usr/lib/python3/dist-packages"
PACKAGE = f"{SITE}/cc_source_routing"
CONFD = "etc/cloud/cloud.cfg.d"


@pytest.mark.parametrize("suite", SUITES)
def test_a_good_image_is_well(suite: str, baked: Callable[[str], Path]) -> None:
    done = attempt([VERIFY, baked(suite)])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith(": well\n")


def _append(root: Overlay, path: str, text: str) -> None:
    root.write(path, root.read(path) + text)


def _remove(root: Overlay, path: str) -> None:
    assert (root.lower / path).exists()
    root.must(f"rm -r /{path}")


def _an_older_signature(root: Overlay) -> None:
    path = f"{PACKAGE}/__init__.py"
    text = root.read(path)
    signature = "def handle(name: str, cfg: Any, *args: Any, **kwargs: Any)"
    assert signature in text
    root.write(path, text.replace(signature, "def handle(name, cfg, *args)"))


BROKEN: dict[str, tuple[Callable[[Overlay], None], str]] = {
    "the drop-in is gone": (
        lambda root: _remove(root, f"{CONFD}/95_source_routing.cfg"),
        "source_routing is not in the list of the network stage",
    ),
    "a later drop-in replaces the list": (
        lambda root: root.write(f"{CONFD}/99_own.cfg", "cloud_init_modules: [ssh]\n"),
        "source_routing is not in the list of the network stage",
    ),
    "the list was written by hand and lost modules": (
        lambda root: root.write(
            f"{CONFD}/95_source_routing.cfg", "cloud_init_modules: [ssh, source_routing]\n"
        ),
        "has lost migrator",
    ),
    "the package is gone": (
        lambda root: _remove(root, PACKAGE),
        "does not find the module source_routing",
    ),
    "the package does not import": (
        lambda root: root.write(f"{PACKAGE}/__init__.py", "import of_no_such_name\n"),
        "importing cc_source_routing fails: ModuleNotFoundError",
    ),
    "a deeper module does not import": (
        lambda root: root.write(f"{PACKAGE}/plan/build.py", "def (\n"),
        "importing cc_source_routing.plan.build fails: SyntaxError",
    ),
    "pyroute2 is gone": (
        lambda root: _remove(root, f"{SITE}/pyroute2"),
        "cloud-init's Python has no pyroute2",
    ),
    "this cloud-init cannot call handle": (_an_older_signature, "call of source_routing"),
    "a template is gone": (
        lambda root: _remove(root, f"{PACKAGE}/templates/hook.sh.j2"),
        "templates/hook.sh.j2 is missing",
    ),
    "the stanza's schema is gone": (
        lambda root: _remove(root, f"{PACKAGE}/stanza/stanza.schema.json"),
        "the stanza's schema cannot be read",
    ),
    "the schema was never taught": (
        lambda root: root.must(
            f"cd /{SITE}/cloudinit/config/schemas && cp schema-cloud-config-v1.json.distrib "
            "schema-cloud-config-v1.json"
        ),
        "schema accepts a bad stanza",
    ),
    "nobody would register it again": (
        lambda root: _remove(root, "usr/lib/source-routing"),
        "register is missing",
    ),
    "a file was edited": (
        lambda root: _append(root, f"{PACKAGE}/plan/build.py", "# a change\n"),
        "build.py is not what was installed",
    ),
    "it has a machine-id": (
        lambda root: root.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        "machine-id is not empty",
    ),
    "it has no machine-id at all": (
        lambda root: _remove(root, "etc/machine-id"),
        "machine-id is missing",
    ),
    "it has SSH host keys": (
        lambda root: root.write("etc/ssh/ssh_host_ed25519_key", "secret\n", 0o600),
        "an SSH host key is left",
    ),
    "it has package lists": (
        lambda root: root.write("var/lib/apt/lists/deb.example_dists_x", ""),
        "a package list is left",
    ),
    "cloud-init has run in it": (
        lambda root: root.write("var/lib/cloud/instances/i-1/obj.pkl", ""),
        "state of an instance is left",
    ),
    "it has one server's NICs in it": (
        lambda root: root.write("etc/source-routing/nics/ens4", ""),
        "what was rendered for one server's NICs is left",
    ),
    "cloud-init is disabled": (
        lambda root: root.write("etc/cloud/cloud-init.disabled", ""),
        "cloud-init is disabled: /etc/cloud/cloud-init.disabled is there",
    ),
    "cloud-init asks no cloud": (
        lambda root: root.write(f"{CONFD}/90_site.cfg", "datasource_list: [None]\n"),
        "datasource_list names None alone",
    ),
    "cloud-init is no Python program": (
        lambda root: root.write("usr/bin/cloud-init", "#!/bin/sh\n", 0o755),
        "does not start with a Python",
    ),
}


@pytest.fixture
def root(baked: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> Overlay:
    return overlay(baked("bookworm"))


def _verify(root: Overlay, *options: str) -> Completed:
    return root.host(f'exec "{VERIFY}" {" ".join(options)} "$ROOT"')


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_image_is_told_for_what_it_is(root: Overlay, case: str) -> None:
    spoil, fault = BROKEN[case]
    spoil(root)
    done = _verify(root)
    assert done.returncode == 1
    assert fault in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_all_faults_are_told_at_once_a_line_each(root: Overlay) -> None:
    for case in ("it has a machine-id", "it has SSH host keys", "a template is gone"):
        BROKEN[case][0](root)
    lines = _verify(root).stdout.splitlines()
    for case in ("it has a machine-id", "it has SSH host keys", "a template is gone"):
        assert len([line for line in lines if BROKEN[case][1] in line]) == 1


def test_a_system_in_use_need_not_be_clean(root: Overlay) -> None:
    BROKEN["it has a machine-id"][0](root)
    assert _verify(root, "--used").returncode == 0


def test_what_may_be_meant_so_is_a_warning(root: Overlay) -> None:
    network = "network: {config: disabled}\ncloud_final_modules: [scripts_user, emit_upstart]\n"
    root.write(f"{CONFD}/90_site.cfg", network)
    done = _verify(root)
    assert done.returncode == 0, done.stdout
    first, second, last = done.stdout.splitlines()
    assert first.startswith("warning: cloud-init leaves the network alone")
    assert second.startswith(f"warning: /{CONFD}/90_site.cfg replaces the image's own")
    assert second.endswith("this cloud-init has no emit_upstart")
    assert last.endswith(": well")


def test_looking_changes_nothing(root: Overlay) -> None:
    before = root.traces()
    assert _verify(root).returncode == 0
    assert root.traces() == before


def test_a_disk_image_is_looked_into_too(scratch: Path, baked: Callable[[str], Path]) -> None:
    # A file system without a partition table: enough, and quick.
    raw = scratch / "disk.raw"
    with open(raw, "wb") as disk:
        disk.truncate(4 << 30)
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", baked("trixie")]
    subprocess.run([*argv, raw], check=True)
    done = attempt([VERIFY, raw])
    assert done.returncode == 0, done.stdout + done.stderr
    raw.unlink()


@pytest.mark.parametrize("content", [b"", b"no image", bytes(2 << 20)])
def test_what_is_no_disk_of_a_linux_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "image.qcow2"
    image.write_bytes(content)
    done = attempt([VERIFY, image])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("verify: ")
