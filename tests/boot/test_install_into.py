"""The installer, in a real Debian root: what it adds, what it refuses, what it takes back.

Each test has an overlay over the pristine root, mounted only in the mount
namespace of the command that it runs; the overlay's upper directory is then
exactly what was changed.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuild import cache, payload
from imagebuild.command import Completed, attempt

pytestmark = pytest.mark.boot

INSTALLER = payload.CHECKOUT / "image-build/install-into"
CONFD = "etc/cloud/cloud.cfg.d"
SITE = "usr/lib/python3/dist-packages"

# cloud-init 22.4 of bookworm.
BOOKWORMS_OWN = (
    "migrator seed_random bootcmd write_files growpart resizefs disk_setup mounts set_hostname "
    "update_hostname update_etc_hosts ca_certs rsyslog users_groups ssh"
)

_RUN = """
set -eu
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
shift 2
exec "$@" "$root"
"""


class Tree:
    """A root to install into, with a record of all that has been changed in it."""

    def __init__(self, lower: Path, scratch: Path):
        self.lower, self.scratch = lower, scratch
        self.upper = scratch / "upper"
        for name in ("upper", "work", "root"):
            (scratch / name).mkdir(parents=True)

    def run(self, *argv: str) -> Completed:
        """Run a command with the root's path behind its arguments."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _RUN, "run"]
        return attempt([*enter, str(self.lower), str(self.scratch), *argv], timeout=1800)

    def install(self, *options: str) -> Completed:
        return self.run(str(INSTALLER), *options)

    def inside(self, script: str) -> Completed:
        """Run a shell script in the root, without a network."""
        return self.run("sh", "-c", f"unshare --net chroot \"$0\" sh -euc '{script}'")

    def write(self, path: str, text: str) -> None:
        target = self.upper / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def changed(self) -> dict[str, tuple[int, int, float]]:
        """Each file, link or whiteout that differs from the pristine root."""
        found = {}
        for path in sorted(self.upper.rglob("*")):
            info = path.lstat()
            name = str(path.relative_to(self.upper))
            if not stat.S_ISDIR(info.st_mode) and not self._as_before(name):
                found[name] = (info.st_mode, info.st_size, info.st_mtime)
        return found

    def _as_before(self, name: str) -> bool:
        """Whether a file was written again with what it had; or is dpkg's own backup."""
        here, there = self.upper / name, self.lower / name
        if name == "var/lib/dpkg/diversions-old":
            return True
        if not here.is_file() or not there.is_file():
            return False
        same = here.lstat().st_mode == there.lstat().st_mode
        return same and here.read_bytes() == there.read_bytes()


@pytest.fixture
def tree(plain_bookworm: Path, scratch: Path) -> Iterator[Tree]:
    home = scratch / "tree"
    yield Tree(plain_bookworm, home)
    cache.discard(home)


def test_the_module_comes_last_in_the_images_own_list_and_none_is_lost(tree: Tree) -> None:
    done = tree.install()
    assert done.returncode == 0, done.stderr
    assert f"cloud_init_modules: {BOOKWORMS_OWN} source_routing\n" in done.stdout


def test_the_command_and_all_its_files_are_there(tree: Tree) -> None:
    tree.install()
    assert tree.inside("source-routing --help").returncode == 0
    assert tree.inside("source-routing plan").returncode == 0
    where = "cc_source_routing/templates"
    templates = {p.name for p in (payload.CHECKOUT / "templates").glob("*.j2")}
    assert templates and templates <= {p.name for p in (tree.upper / SITE / where).iterdir()}
    assert (tree.upper / SITE / "cc_source_routing/stanza/stanza.schema.json").is_file()
    version = tree.inside(
        'python3 -c "import importlib.metadata as m; print(m.version(\\"cc-source-routing\\"))"'
    )
    assert version.stdout.strip() == payload.project().version, version.stderr


def test_a_rerun_changes_nothing_and_says_so(tree: Tree) -> None:
    tree.install("--default-stanza", "true")
    before = tree.changed()
    done = tree.install("--default-stanza", "true")
    assert done.returncode == 0 and "already installed" in done.stdout
    assert tree.changed() == before


def test_a_rerun_without_options_keeps_the_default_stanza(tree: Tree) -> None:
    tree.install("--default-stanza", "true")
    done = tree.install()
    assert "already installed" in done.stdout
    assert (tree.upper / CONFD / "96_source_routing_default.cfg").exists()


def test_uninstalling_restores_the_root(tree: Tree) -> None:
    before = tree.changed()
    assert before == {}
    tree.install("--default-stanza", "true")
    enabled = tree.inside("systemctl enable source-routing.timer")
    assert enabled.returncode == 0, enabled.stderr
    done = tree.install("--uninstall")
    assert done.returncode == 0, done.stderr
    assert tree.changed() == before
    assert not list((tree.upper / SITE).glob("cc_source_routing*"))
    assert "not installed" in tree.install("--uninstall").stdout


def test_a_list_of_the_images_own_drop_in_is_the_one_that_counts(tree: Tree) -> None:
    own = 'cloud_init_modules: [bootcmd, [write-files, always], "set_hostname", ssh]\n'
    tree.write(f"{CONFD}/50_own.cfg", own)
    done = tree.install()
    assert done.returncode == 0, done.stderr
    assert "cloud_init_modules: bootcmd write_files set_hostname ssh source_routing" in done.stdout
    drop_in = (tree.upper / CONFD / "95_source_routing.cfg").read_text()
    assert '  - ["write-files", "always"]\n' in drop_in


def test_a_changed_list_of_the_image_is_taken_over_by_a_rerun(tree: Tree) -> None:
    tree.install()
    tree.write(f"{CONFD}/50_own.cfg", "cloud_init_modules: [bootcmd, growpart, ssh]\n")
    done = tree.install()
    assert "cloud_init_modules: bootcmd growpart ssh source_routing" in done.stdout


def test_an_image_that_lists_the_module_itself_needs_no_drop_in(tree: Tree) -> None:
    tree.write(f"{CONFD}/50_own.cfg", "cloud_init_modules: [bootcmd, source-routing, ssh]\n")
    done = tree.install()
    assert done.returncode == 0, done.stderr
    assert not (tree.upper / CONFD / "95_source_routing.cfg").exists()


def _cloud_cfg_without_modules(tree: Tree) -> None:
    tree.write("etc/cloud/cloud.cfg", "users: [default]\n")


def _drop_in_that_would_win(tree: Tree) -> None:
    tree.write(f"{CONFD}/99_own.cfg", "cloud_init_modules: [bootcmd, ssh]\n")


def _list_of_another_kind(tree: Tree) -> None:
    tree.write(f"{CONFD}/50_own.cfg", "cloud_init_modules: [runcmd, phone-home]\n")


def _image_without_pyroute2(tree: Tree) -> None:
    # A file where the package's directory was: an overlay hides the one below.
    tree.write(f"{SITE}/pyroute2", "")


def _image_whose_cloud_init_is_no_python_program(tree: Tree) -> None:
    tree.write("usr/bin/cloud-init", "#!/bin/sh\nexit 0\n")


REFUSED = {
    _cloud_cfg_without_modules: "has no cloud_init_modules",
    _drop_in_that_would_win: "99_own.cfg would replace our list",
    _list_of_another_kind: "not the list of a network stage",
    _image_without_pyroute2: "install python3-pyroute2 there",
    _image_whose_cloud_init_is_no_python_program: "does not start with a Python",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__.strip("_"))
def test_an_image_that_it_cannot_serve_is_refused_and_left_alone(tree: Tree, spoil) -> None:
    spoil(tree)
    before = tree.changed()
    done = tree.install("--default-stanza", "true")
    assert done.returncode == 1
    assert REFUSED[spoil] in done.stderr
    assert "Traceback" not in done.stderr
    assert tree.changed() == before


@pytest.mark.parametrize(
    ("stanza", "fault"),
    [
        ("source_routing: {renderrer: auto}\n", "renderrer"),
        ("source_routing: [oops\n", "stanza.yaml"),
        ("runcmd: [ls]\n", "no source_routing"),
    ],
)
def test_a_wrong_default_stanza_is_refused_before_anything_is_written(
    tree: Tree, tmp_path: Path, stanza: str, fault: str
) -> None:
    file = tmp_path / "stanza.yaml"
    file.write_text("#cloud-config\n" + stanza)
    done = tree.install("--default-stanza", str(file))
    assert done.returncode == 1
    assert fault in done.stderr
    assert tree.changed() == {}


def test_a_directory_that_is_no_root_with_cloud_init_is_refused(tmp_path: Path) -> None:
    done = attempt([INSTALLER, tmp_path])
    assert done.returncode == 1
    assert "no root directory with cloud-init" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_out_of_the_root_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    # An image may be hostile or just broken; the host's /etc is not its own.
    (tree.upper / "etc/cloud").mkdir(parents=True)
    (tree.upper / "etc/cloud/clean.d").symlink_to(tmp_path)
    done = tree.install()
    assert done.returncode == 1
    assert "leads out of" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_cleaning_an_instance_takes_what_was_rendered_but_not_the_module(tree: Tree) -> None:
    tree.install()
    tree.write("var/lib/cloud/data/instance-id", "an instance has run here\n")
    tree.write("etc/source-routing/stanza.json", '{"enabled": true}\n')
    tree.write("etc/iproute2/rt_tables.d/source-routing.conf", "500 ens3\n")
    done = tree.inside("cloud-init clean --logs --seed")
    assert done.returncode == 0, done.stderr
    assert not (tree.upper / "etc/source-routing/stanza.json").exists()
    assert not (tree.upper / "etc/iproute2/rt_tables.d/source-routing.conf").exists()
    assert "already installed" in tree.install().stdout
