"""What keeps cloud-init from its work at a first boot, as `verify` finds it in an image's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Found beside `examine` in an image; no other test shall meet its neighbours by accident.
INSIDE = str(Path(__file__).resolve().parents[2] / "image-build/imagebuild")
sys.path.insert(0, INSIDE)
import firstboot  # noqa: E402

sys.path.remove(INSIDE)

UNITS = "usr/lib/systemd/system"
WANTS = "etc/systemd/system/cloud-init.target.wants"
CLOUD_CFG = "/etc/cloud/cloud.cfg"
DROP_IN = "/etc/cloud/cloud.cfg.d/50-site.cfg"
OWN = {
    "cloud_init_modules": ["seed_random", "ssh"],
    "cloud_config_modules": ["locale", "ntp", "runcmd"],
}
MODULES = {"seed_random", "ssh", "locale", "ntp", "runcmd", "source_routing"}


class Tree:
    """A small image: the units of one release of cloud-init, enabled, and a boot menu."""

    def __init__(self, place: Path, *services: str):
        self.place = place
        self.configs: list[tuple[str, dict]] = [(CLOUD_CFG, OWN)]
        self.write("etc/machine-id", "")
        self.write(f"{UNITS}/cloud-init.target", "[Unit]\n")
        for name in services:
            self.write(f"{UNITS}/{name}", "[Unit]\n")
            self.link(f"{WANTS}/{name}", f"/{UNITS}/{name}")
        self.write("boot/grub/grub.cfg", "menuentry 'a' {\n    linux /vmlinuz root=LABEL=r ro\n}\n")
        self.write("etc/default/grub", 'GRUB_CMDLINE_LINUX="console=tty0"\n')

    def write(self, path: str, text: str) -> None:
        target = self.place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def link(self, path: str, target: str) -> None:
        place = self.place / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def told(self) -> tuple[list[str], list[str]]:
        """(faults, warnings)"""
        merged = {key: value for _path, told in self.configs for key, value in told.items()}
        root = firstboot.Root(str(self.place))
        return firstboot.findings(root, self.configs, merged, MODULES.__contains__)

    def fault(self) -> str:
        faults, warnings = self.told()
        assert len(faults) == 1 and warnings == []
        return faults[0]

    def warning(self) -> str:
        faults, warnings = self.told()
        assert faults == [] and len(warnings) == 1
        return warnings[0]


OLD = ("cloud-init-local.service", "cloud-init.service")
NEW = ("cloud-init-main.service", "cloud-init-local.service", "cloud-init-network.service")


@pytest.fixture(params=[OLD, NEW], ids=["before 24.3", "since"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, *request.param)


def test_an_image_that_boots_into_cloud_init_has_nothing_told_of_it(tree: Tree) -> None:
    assert tree.told() == ([], [])


def test_the_file_that_disables_it_is_named(tree: Tree) -> None:
    tree.write("etc/cloud/cloud-init.disabled", "")
    assert tree.fault() == "cloud-init is disabled: /etc/cloud/cloud-init.disabled is there"


@pytest.mark.parametrize("name", ["cloud-init.target", "cloud-init-local.service"])
@pytest.mark.parametrize("how", ["link", "empty"])
def test_a_masked_unit_is_named(tree: Tree, name: str, how: str) -> None:
    path = f"etc/systemd/system/{name}"
    tree.link(path, "/dev/null") if how == "link" else tree.write(path, "")
    assert tree.fault() == f"cloud-init is disabled: {name} is masked (/{path})"


def test_who_wants_no_hotplug_masks_it_unblamed(tree: Tree) -> None:
    tree.write(f"{UNITS}/cloud-init-hotplugd.service", "[Unit]\n")
    tree.link("etc/systemd/system/cloud-init-hotplugd.service", "/dev/null")
    assert tree.told() == ([], [])


def test_a_unit_of_another_release_may_be_masked(tmp_path: Path) -> None:
    tree = Tree(tmp_path, *NEW)
    tree.link("etc/systemd/system/cloud-init.service", "/dev/null")
    assert tree.told() == ([], [])


def test_a_unit_that_was_disabled_is_named(tree: Tree) -> None:
    (tree.place / WANTS / "cloud-init-local.service").unlink()
    assert "cloud-init-local.service is not enabled" in tree.fault()


def test_presets_enable_it_where_the_first_boot_asks_them(tree: Tree) -> None:
    (tree.place / WANTS / "cloud-init-local.service").unlink()
    tree.write("etc/machine-id", "uninitialized\n")
    assert tree.told() == ([], [])


def test_a_masked_generator_is_named(tree: Tree) -> None:
    tree.link("etc/systemd/system-generators/cloud-init-generator", "/dev/null")
    assert "its generator is masked" in tree.fault()


def test_an_image_without_systemd_has_no_units_to_miss(tmp_path: Path) -> None:
    assert firstboot.units(firstboot.Root(str(tmp_path))) == []


GRUB = "menuentry 'a' {\n    linux /vmlinuz ro %s\n}\n"
SWITCHED_OFF = {
    "grub": ("boot/grub/grub.cfg", GRUB % "cloud-init=disabled quiet"),
    "grub in Red Hat's place": ("boot/grub2/grub.cfg", GRUB % "cloud-init=disabled"),
    "the policy of ds-identify": ("boot/grub/grub.cfg", GRUB % "ci.di.policy=disabled"),
    "boot loader specification": (
        "boot/loader/entries/a.conf",
        "title a\noptions root=LABEL=r cloud-init=disabled\n",
    ),
    "extlinux": ("boot/extlinux/extlinux.conf", "label a\n  APPEND ro cloud-init=disabled\n"),
}


@pytest.mark.parametrize("case", SWITCHED_OFF)
def test_the_kernel_command_line_that_disables_it_is_named(tree: Tree, case: str) -> None:
    path, text = SWITCHED_OFF[case]
    (tree.place / "boot/grub/grub.cfg").unlink()
    tree.write(path, text)
    expected = f"cloud-init is disabled on the kernel command line (/{path})"
    assert tree.fault() == expected


@pytest.mark.parametrize("where", ["grubenv", "grub.cfg"])
def test_a_variable_of_grub_is_looked_up(tree: Tree, where: str) -> None:
    (tree.place / "boot/grub/grub.cfg").unlink()
    tree.write("boot/loader/entries/a.conf", "options $kernelopts\n")
    told = {
        "grubenv": "root=LABEL=r ro",
        "grub.cfg": "root=LABEL=r ro",
        where: "cloud-init=disabled",
    }
    tree.write("boot/grub2/grub.cfg", f'  set kernelopts="{told["grub.cfg"]}"\n')
    if where == "grubenv":
        tree.write("boot/grub2/grubenv", f"# GRUB\nkernelopts={told['grubenv']}\n####\n")
    assert "on the kernel command line (/boot/loader/entries/a.conf)" in tree.fault()


def test_what_grub_is_configured_with_counts_where_there_is_no_menu(tree: Tree) -> None:
    (tree.place / "boot/grub/grub.cfg").unlink()
    tree.write("etc/default/grub", 'GRUB_CMDLINE_LINUX="console=tty0 cloud-init=disabled"\n')
    assert "(/etc/default/grub)" in tree.fault()


def test_where_there_is_one_it_is_only_for_later(tree: Tree) -> None:
    tree.write("etc/default/grub.d/50.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="cloud-init=disabled"\n')
    assert "the next update of the boot loader disables cloud-init" in tree.warning()


def test_another_entry_than_the_first_is_a_warning(tree: Tree) -> None:
    tree.write("boot/grub/grub.cfg", GRUB % "quiet" + GRUB % "cloud-init=disabled single")
    assert "some boot entries disable cloud-init" in tree.warning()


def test_the_first_alone_is_a_fault(tree: Tree) -> None:
    """As `update-grub` makes it of GRUB_CMDLINE_LINUX_DEFAULT."""
    tree.write("boot/grub/grub.cfg", GRUB % "cloud-init=disabled" + GRUB % "single")
    assert "on the kernel command line (/boot/grub/grub.cfg)" in tree.fault()


def test_an_entry_for_rescue_says_nothing_of_the_others(tree: Tree) -> None:
    (tree.place / "boot/grub/grub.cfg").unlink()
    tree.write("boot/loader/entries/0-rescue.conf", "options root=LABEL=r\n")
    tree.write("boot/loader/entries/6.1.conf", "options root=LABEL=r cloud-init=disabled\n")
    assert "(/boot/loader/entries/6.1.conf)" in tree.fault()


@pytest.mark.parametrize("line", ["cloud-init=enabled", "my-cloud-init=disabled"])
def test_other_words_are_other_words(tree: Tree, line: str) -> None:
    tree.write("boot/grub/grub.cfg", f"# cloud-init=disabled\n{GRUB % line}")
    tree.write("etc/default/grub", '#GRUB_CMDLINE_LINUX="cloud-init=disabled"\n')
    assert tree.told() == ([], [])


def test_a_pipe_in_the_image_does_not_stop_the_looking(tree: Tree) -> None:
    (tree.place / "etc/default/grub").unlink()
    os.mkfifo(tree.place / "etc/default/grub")
    assert tree.told() == ([], [])


@pytest.mark.parametrize("names", [["None"], ["none", "None"]])
def test_no_data_source_at_all_is_a_fault(tree: Tree, names: list[str]) -> None:
    tree.configs.append((DROP_IN, {"datasource_list": names}))
    assert "datasource_list names None alone" in tree.fault()


@pytest.mark.parametrize("names", [["OpenStack", "None"], ["ConfigDrive"], []])
def test_none_behind_others_is_as_distributions_have_it(tree: Tree, names: list[str]) -> None:
    tree.configs.append((DROP_IN, {"datasource_list": names}))
    assert tree.told() == ([], [])


IDENTIFY: dict[str, tuple[str, Callable[[str], bool]]] = {
    "disabled": ("policy: disabled\n", lambda told: "the policy of /etc/cloud/ds-id" in told),
    "quoted": ('policy: "search,disabled"\n', lambda told: "is search,disabled" in told),
    "none": ("datasource: None # no\n", lambda told: "names the data source None" in told),
}


@pytest.mark.parametrize("case", IDENTIFY)
def test_what_ds_identify_is_told_is_read(tree: Tree, case: str) -> None:
    text, right = IDENTIFY[case]
    tree.write("etc/cloud/ds-identify.cfg", text)
    assert right(tree.fault())


def test_a_policy_that_searches_is_fine(tree: Tree) -> None:
    text = "# policy: disabled\npolicy: search,found=all,maybe=all,notfound=disabled\n"
    tree.write("etc/cloud/ds-identify.cfg", text)
    assert tree.told() == ([], [])


def test_a_network_that_cloud_init_leaves_alone_is_a_warning(tree: Tree) -> None:
    tree.configs.append((DROP_IN, {"network": {"config": "disabled"}}))
    told = tree.warning()
    assert f"(network: {{config: disabled}}, {DROP_IN})" in told and "a second NIC" in told


def test_on_the_kernel_command_line_too(tree: Tree) -> None:
    tree.write("boot/grub/grub.cfg", GRUB % "network-config=disabled")
    assert "network-config=disabled on the kernel command line" in tree.warning()


@pytest.mark.parametrize("nested", [False, True])
def test_a_network_of_one_server_that_all_would_have_is_a_warning(tree: Tree, nested: bool) -> None:
    network = {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
    tree.configs.append((DROP_IN, {"network": {"network": network} if nested else network}))
    assert tree.warning().startswith(f"{DROP_IN} has the network of every server")


def test_a_list_of_modules_from_another_release_is_one_sentence(tree: Tree) -> None:
    tree.configs.append((DROP_IN, {"cloud_config_modules": ["emit_upstart", ["runcmd", "always"]]}))
    assert tree.warning() == (
        f"{DROP_IN} replaces the image's own cloud_config_modules: it leaves out locale, ntp; "
        "this cloud-init has no emit_upstart"
    )


def test_the_same_list_in_other_words_is_none(tree: Tree) -> None:
    names = ["cc_locale.py", {"name": "ntp"}, "runcmd"]
    tree.configs.append((DROP_IN, {"cloud_config_modules": names}))
    assert tree.told() == ([], [])


def test_our_own_list_has_a_check_of_its_own(tree: Tree) -> None:
    path = "/etc/cloud/cloud.cfg.d/95_source_routing.cfg"
    tree.configs.append((path, {"cloud_init_modules": ["source_routing"]}))
    assert tree.told() == ([], [])
