"""cloud-init that is not where Debian has it: all is put beside it, found again, and taken back.

The real cloud-init of a release, moved in its own root to where others have it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuild import payload

from tests.sizes import one_each

from .overlay import Overlay

pytestmark = pytest.mark.daemon

IMAGE_BUILD = payload.CHECKOUT / "image-build"
INSTALL = f'"{IMAGE_BUILD}/install-into" "$ROOT"'
VERIFY = f'"{IMAGE_BUILD}/verify" "$ROOT"'
UNIT = "etc/systemd/system/cloud-init-main.service.d/own.conf"

MORE = pytest.mark.thorough("more homes of cloud-init")

# $1: the directory of the environment.
_ENVIRONMENT = """
python3 -m venv --without-pip $1
cp -a /usr/lib/python3/dist-packages/. $1/lib/python3.*/site-packages/
rm -r /usr/lib/python3/dist-packages/cloudinit
{ echo "#!$1/bin/python3"; sed 1d /usr/bin/cloud-init; } >$1/bin/cloud-init
chmod 755 $1/bin/cloud-init
rm /usr/bin/cloud-init
"""


def _environment(root: Overlay, directory: str) -> None:
    root.must(_ENVIRONMENT.replace("$1", directory))


def _by_a_link(root: Overlay) -> None:
    _environment(root, "/opt/cloud-init")
    root.must("ln -s /opt/cloud-init/bin/cloud-init /usr/bin/cloud-init")


def _by_a_link_of_a_versioned_directory(root: Overlay) -> None:
    _environment(root, "/opt/cloud-init-25.1")
    # Absolute: outside the image it leads to the builder's own /opt.
    root.must(
        "ln -s /opt/cloud-init-25.1 /opt/cloud-init\n"
        "ln -s /opt/cloud-init/bin/cloud-init /usr/local/bin/cloud-init\n"
        "sed -i 1s/-25.1// /opt/cloud-init-25.1/bin/cloud-init"
    )


def _by_its_unit_alone(root: Overlay) -> None:
    _environment(root, "/opt/cloud-init")
    line = "ExecStart=/opt/cloud-init/bin/cloud-init --all-stages"
    root.write(UNIT, f"[Service]\nExecStart=\n{line}\n")


def _by_a_wrapper(root: Overlay) -> None:
    _environment(root, "/opt/cloud-init")
    line = 'exec /opt/cloud-init/bin/cloud-init "$@"'
    root.must(
        f"printf '#!/bin/sh\\n%s\\n' '{line}' >/usr/bin/cloud-init; chmod 755 /usr/bin/cloud-init"
    )


def _in_usr_local(root: Overlay) -> None:
    root.must(
        "cd /usr/local/lib/python3.*/dist-packages\n"
        "mv /usr/lib/python3/dist-packages/cloudinit .\n"
        "mv /usr/bin/cloud-init /usr/local/bin/cloud-init\n"
    )


# Where the package is looked for then.
HOMES: dict[str, tuple[Callable[[Overlay], None], str]] = {
    "an environment behind a link": (_by_a_link, "opt/cloud-init/lib/python3*/site-packages"),
    "a versioned environment": (
        _by_a_link_of_a_versioned_directory,
        "opt/cloud-init-25.1/lib/python3*/site-packages",
    ),
    "one that only the unit names": (
        _by_its_unit_alone,
        "opt/cloud-init/lib/python3*/site-packages",
    ),
    "one behind a wrapper": (_by_a_wrapper, "opt/cloud-init/lib/python3*/site-packages"),
    "usr local": (_in_usr_local, "usr/local/lib/python3*/dist-packages"),
}


@pytest.fixture
def root(plain: Callable[[str], Path], overlay: Callable[[Path], Overlay]) -> Overlay:
    return overlay(plain("trixie"))


@pytest.mark.parametrize("home", one_each(HOMES, ["a versioned environment"], MORE.args[0]))
def test_it_is_installed_there_verified_cleaned_and_taken_out_again(
    home: str, root: Overlay
) -> None:
    make, site = HOMES[home]
    make(root)
    before = root.traces()
    done = root.host(INSTALL)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in root.upper.glob(f"{site}/cc_source_routing")]
    assert not list(root.upper.glob("usr/lib/python3/dist-packages/cc_source_routing*"))
    assert "already installed" in root.host(INSTALL).stdout
    # As `bake` asks whether there is anything to do, and cleans what it has baked.
    done = root.host(
        f'cd "{IMAGE_BUILD}"; python3 -B -c "from pathlib import Path; import sys; '
        "from imagebuild import clean, install; root = Path(sys.argv[1]); "
        'assert install.present(root); clean.clean(root)" "$ROOT"'
    )
    assert done.returncode == 0, done.stderr
    done = root.host(VERIFY)
    assert done.returncode == 0 and done.stdout.endswith(": well\n"), done.stdout + done.stderr
    spoilt = next(root.upper.glob(f"{site}/cc_source_routing/plan/build.py"))
    kept = spoilt.read_bytes()
    spoilt.write_bytes(kept + b"# a change\n")
    assert "build.py is not what was installed" in root.host(VERIFY).stdout
    spoilt.write_bytes(kept)
    done = root.host(f"{INSTALL} --uninstall")
    assert done.returncode == 0, done.stderr
    left = [path for path in root.traces() if path not in before]
    assert [path for path in left if "source" in path] == []
    assert "not installed" in root.host(f"{INSTALL} --uninstall").stdout


@MORE
def test_what_was_put_beside_it_is_found_also_when_it_has_gone(root: Overlay) -> None:
    _by_a_link(root)
    assert root.host(INSTALL).returncode == 0
    root.must("rm /usr/bin/cloud-init")
    assert root.host(f"{INSTALL} --uninstall").returncode == 0
    assert not list(root.upper.glob("opt/cloud-init/lib/python3*/site-packages/cc_source_*"))


@MORE
def test_the_debian_package_is_not_put_over_it(root: Overlay, deb: Path) -> None:
    _by_a_link(root)
    assert root.host(INSTALL).returncode == 0
    root.write("var/tmp/own.deb", deb.read_bytes())
    done = root.inside("dpkg --force-depends -i /var/tmp/own.deb")
    assert done.returncode != 0 and "with its option --uninstall" in done.stderr


@MORE
def test_an_environment_without_pyroute2_is_told_how_to_get_it(root: Overlay) -> None:
    _by_a_link(root)
    root.must("rm -r /opt/cloud-init/lib/python3.*/site-packages/pyroute2")
    done = root.host(INSTALL)
    assert done.returncode == 1
    wanted = "run `/opt/cloud-init/bin/python3 -m pip install pyroute2` there"
    assert wanted in done.stderr, done.stderr


def test_a_root_without_the_program_is_one_clear_line(root: Overlay) -> None:
    root.must("rm /usr/bin/cloud-init")
    done = root.host(INSTALL)
    assert done.returncode == 1
    assert "has no program cloud-init: /usr/bin/cloud-init of its units is not there" in done.stderr
