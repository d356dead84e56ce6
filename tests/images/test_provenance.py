"""Where an image is from: what stands beside it, and the same root from the same date."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuild import payload, provenance, recipe, roottree
from imagebuild.command import attempt
from imagebuild.provenance import Contents, Package
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

pytestmark = pytest.mark.daemon

BUILD = payload.CHECKOUT / "image-build/build"
VERIFY = payload.CHECKOUT / "image-build/verify"

# The smallest root that has all: two builds of it take a minute and a half.
SMALL = recipe.Recipe("trixie", "networkd", kernel=False)
DATE = 1_700_000_000  # 2023-11-14

ODD = Contents(
    {"ID": "rocky", "VERSION_ID": "9.5"},
    "rpm",
    (Package("gcc-c++", "11.5.0-2.el9", "x86_64"), Package("libfoo~rc1", "1:2.0^git-1", "noarch")),
    "x86_64",
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of 2.5 GiB with nothing in it."""
    path = tmp_path / "an image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "2560M"], check=True)
    return path


@pytest.fixture(scope="module")
def held(baked: Callable[[str], Path]) -> Contents:
    return provenance.contents(baked("trixie"))


def test_the_root_tells_what_it_is_made_of(held: Contents) -> None:
    versions = {package.name: package.version for package in held.packages}
    assert {"cloud-init", "python3-pyroute2", "netplan.io"} <= set(versions)
    assert (held.distro, held.version, held.kind) == ("debian", "13", "deb")
    assert held.machine == os.uname().machine


def test_what_is_never_released_has_no_version(baked: Callable[[str], Path]) -> None:
    assert provenance.contents(baked("sid")).version is None


def test_the_manifest_names_packages_source_and_digest(image: Path, held: Contents) -> None:
    (told,) = (
        json.loads(path.read_text())
        for path in provenance.write_beside(image, held)
        if path.name == f"{image.name}.manifest.json"
    )
    assert told["image"]["virtual_size"] == 2560 << 20
    assert told["image"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert told["source"]["version"] == payload.project().version
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", told["source"]["commit"])
    assert "cloud-init" in [package["name"] for package in told["packages"]]


def test_the_checksum_is_for_sha256sum(image: Path, held: Contents) -> None:
    list(provenance.write_beside(image, held))
    done = subprocess.run(
        ["sha256sum", "--check", f"{image.name}.sha256"],
        cwd=image.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{image.name}: OK\n")


@pytest.mark.parametrize("contents", [None, ODD], ids=["a Debian", "odd names and versions"])
def test_the_sbom_is_valid_spdx(image: Path, held: Contents, contents: Contents | None) -> None:
    list(provenance.write_beside(image, contents or held))
    document = parse_file(str(image.with_name(f"{image.name}.spdx.json")))
    faults = validate_full_spdx_document(document)
    assert [fault.validation_message for fault in faults] == []
    # The image itself and the module are packages, too.
    assert len(document.packages) == len((contents or held).packages) + 2


def test_the_same_image_at_the_same_date_has_the_same_sbom(
    image: Path, held: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DATE))
    first = [path.read_bytes() for path in provenance.write_beside(image, held)]
    assert [path.read_bytes() for path in provenance.write_beside(image, held)] == first
    assert b'"created": "2023-11-14T22:13:20Z"' in first[2]


def test_an_upload_names_what_the_cloud_should_know(image: Path, held: Contents) -> None:
    command = provenance.upload_command(image, held)
    for wanted in (
        "os_distro=debian",
        "os_version=13",
        "hw_disk_bus=virtio",
        "--min-disk 3",
        "--disk-format qcow2",
        f"--file '{image}'",
    ):
        assert wanted in command
    assert ("hw_qemu_guest_agent=yes" in command) == held.has("qemu-guest-agent")
    assert "hw_qemu_guest_agent" not in provenance.upload_command(image, ODD)


def test_a_root_without_a_package_manager_is_refused(tmp_path: Path) -> None:
    with pytest.raises(provenance.BuildError, match="neither dpkg nor rpm"):
        provenance.contents(tmp_path)


def test_from_nothing_to_an_image_with_all_beside_it(tmp_path: Path) -> None:
    """The README's command, to the compressed qcow2 that is uploaded."""
    output = tmp_path / "golden.qcow2"
    done = attempt([BUILD, "--output", output], timeout=3600)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"golden.qcow2{suffix}" for suffix in ("", ".manifest.json", ".sha256", ".spdx.json")
    ]
    assert "openstack image create debian-12-source-routing" in done.stdout
    assert attempt(["qemu-img", "check", output]).returncode == 0
    assert attempt([VERIFY, output], timeout=1800).stdout.endswith(": well\n")


@pytest.fixture(scope="module")
def two_builds(scratch: Path) -> Iterator[list[Path]]:
    """The same root, built twice, each from nothing, at the same time."""
    running = []
    for number in (1, 2):
        # The suite's mirror and this machine's cache, but nothing that is in it.
        environment = {
            **os.environ,
            "SOURCE_DATE_EPOCH": str(DATE),
            "SOURCE_ROUTING_CACHE": str(scratch / f"cache-{number}"),
        }
        options = ["--suite", SMALL.suite, "--variant", SMALL.variant]
        argv = [str(BUILD), *options, "--no-kernel", "--format", "root"]
        running.append(
            subprocess.Popen(
                argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    told = [process.communicate(timeout=3600) for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    yield [next((scratch / f"cache-{number}").glob("baked-*")) for number in (1, 2)]


@pytest.mark.thorough("two builds of one date, compared")
def test_two_builds_of_one_date_are_the_same_to_the_last_byte(two_builds: list[Path]) -> None:
    first, second = (dict(_entries(tree)) for tree in two_builds)
    assert len(first) > 10_000
    assert {path for path in {*first, *second} if first.get(path) != second.get(path)} == set()


def _entries(tree: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Each path with mode, owner, time and content."""
    for directory, subdirectories, files in os.walk(tree):
        for name in (*subdirectories, *files):
            path = Path(directory, name)
            told = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(told.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            owner = (told.st_uid, told.st_gid)
            yield (
                str(path.relative_to(tree)),
                (told.st_mode, owner, int(told.st_mtime), told.st_rdev, content),
            )


def test_the_inputs_of_a_root_are_its_recipe_and_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = roottree._clean_environment()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DATE))
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    told = roottree._clean_environment()
    assert {**told} == {**environment, "SOURCE_DATE_EPOCH": str(DATE)}
