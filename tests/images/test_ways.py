"""The other ways that operators build images: diskimage-builder, Packer, virt-customize."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagebuild import cache, command, payload
from imagebuild.command import attempt

from lab import demand  # isort: skip

from .test_bake import BAKE, VERIFY, make_image

IMAGE_BUILD = payload.CHECKOUT / "image-build"
ELEMENT = IMAGE_BUILD / "element"
DIB_VERSION = "3.43.0"

pytestmark = pytest.mark.daemon


def _need(**programs: str) -> None:
    demand([f"{name} (package {deb})" for name, deb in command.missing(programs).items()])


# -- diskimage-builder -----------------------------------------------------------


@pytest.fixture(scope="module")
def dib() -> Path:
    """The bin directory of a virtual environment with diskimage-builder, from the cache."""

    def make(path: Path) -> None:
        subprocess.run(["/usr/bin/python3", "-m", "venv", path], check=True)
        pip = [path / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, f"diskimage-builder=={DIB_VERSION}"], check=True)
        finished = path.with_name(path.name.lstrip(".").removesuffix(".unfinished"))
        for script in (path / "bin").iterdir():  # they name their Python by its path
            if script.is_file() and not script.is_symlink():
                text = script.read_bytes()
                script.write_bytes(text.replace(bytes(path), bytes(finished)))

    return cache.remembered("dib", cache.key(DIB_VERSION, "3"), make) / "bin"


def test_the_element_follows_the_conventions(dib: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ELEMENTS_DIR": str(ELEMENT), "LIB_DIR": str(tmp_path)}
    environment["PATH"] = f"{dib}:{environment['PATH']}"
    done = attempt([dib / "dib-lint"], env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80-source-routing" in done.stdout and "PASS" in done.stdout


@pytest.mark.thorough("images by diskimage-builder and virt-customize")
def test_diskimage_builder_builds_an_image_that_is_well(dib: Path, scratch: Path) -> None:
    _need(debootstrap="debootstrap", kpartx="kpartx", sudo="sudo")
    place = scratch / "dib"
    place.mkdir()
    environment = {
        "PATH": f"{dib}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "ELEMENTS_PATH": str(ELEMENT),
        "TMP_DIR": str(place),
        "DIB_IMAGE_CACHE": str(place / "cache"),
        "DIB_RELEASE": "trixie",
        "DIB_APT_SOURCES_CONF": "default:deb http://deb.debian.org/debian trixie main",
        "DIB_APT_MINIMAL_CREATE_INTERFACES": "0",
        "DIB_CLOUD_INIT_DATASOURCES": "ConfigDrive",
        "DIB_SOURCE_ROUTING_DEFAULT": "true",
    }
    # It mounts this machine's /dev in there: nobody else may see that, and who deletes
    # what a killed run has left must not delete it.
    argv = ["unshare", "--mount", "--propagation", "private"]
    argv += ["disk-image-create", "--no-tmpfs", "-t", "tar", "-o", place / "image"]
    argv += ["debian-minimal", "source-routing"]
    done = attempt(argv, timeout=3600, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    root = place / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", place / "image.tar", "-C", root], check=True)
    for name in ("proc", "sys", "dev", "run", "tmp"):  # the archive leaves them out
        (root / name).mkdir(exist_ok=True)
    done = attempt([VERIFY, root])
    assert done.returncode == 0, done.stdout + done.stderr
    default = root / "etc/cloud/cloud.cfg.d/96_source_routing_default.cfg"
    assert "source_routing: true" in default.read_text()
    shutil.rmtree(place)


# -- Packer ----------------------------------------------------------------------


class _Keystone(http.server.BaseHTTPRequestHandler):
    """Enough of OpenStack for `packer validate`, which logs in and does no more."""

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = f"http://127.0.0.1:{self.server.server_address[1]}"  # type: ignore[attr-defined]
        catalog = [
            {
                "type": kind,
                "name": kind,
                "endpoints": [
                    {"interface": "public", "url": f"{here}/{kind}", "region": "R", "id": kind}
                ],
            }
            for kind in ("compute", "image", "network", "volumev3")
        ]
        token = {"catalog": catalog, "expires_at": "2099-01-01T00:00:00.000000Z"}
        body = json.dumps({"token": token}).encode()
        self.send_response(201)
        self.send_header("X-Subject-Token", "token")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def keystone() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Keystone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v3"
    server.shutdown()
    server.server_close()


def test_packer_accepts_its_configuration_for_qemu_and_openstack(
    keystone: str, tmp_path: Path
) -> None:
    _need(packer="packer", **{"ssh-keygen": "openssh-client"})
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for name in ("meta-data", "user-data"):
        (tmp_path / name).write_text("")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CHECKPOINT_DISABLE": "1",
        "OS_AUTH_URL": keystone,
        "OS_USERNAME": "user",
        "OS_PASSWORD": "password",
        "OS_PROJECT_NAME": "project",
        "OS_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "R",
    }
    variables = {"checkout": payload.CHECKOUT, "seed": tmp_path, "private_key": key, "network": "n"}
    argv = ["packer", "validate"]
    for name, value in variables.items():
        argv += ["-var", f"{name}={value}"]
    done = attempt([*argv, IMAGE_BUILD / "packer"], env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# -- virt-customize --------------------------------------------------------------

# libguestfs asks whether there is a /lib/modules: in a copy of /usr/lib of its own.
_WITH_MODULES = """
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/usr/lib,upperdir=/mnt/upper,workdir=/mnt/work overlay /usr/lib
mkdir -p /lib/modules
exec "$@"
"""


@pytest.mark.thorough("images by diskimage-builder and virt-customize")
def test_virt_customize_bakes_an_image_that_is_well(
    plain: Callable[[str], Path], scratch: Path
) -> None:
    _need(**{"virt-customize": "guestfs-tools"})
    image = scratch / "virt.qcow2"
    subprocess.run(["sh", "-euc", make_image(str(plain("trixie")), str(image))], check=True)
    # A kernel for libguestfs' machine: this one may have none, or one of a container's host.
    kernels = plain("bookworm")
    (kernel,) = kernels.glob("boot/vmlinuz-*")
    (modules,) = kernels.glob("lib/modules/*")
    environment = {
        **os.environ,
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
        "SUPERMIN_KERNEL": str(kernel),
        "SUPERMIN_MODULES": str(modules),
    }
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_MODULES, "enter"]
    argv = [*enter, BAKE, "--way", "virt-customize", "--uncompressed", image]
    done = attempt(argv, timeout=3600, env=environment)
    assert done.returncode == 0, done.stderr
    assert attempt([VERIFY, image]).stdout.endswith(": well\n")
    image.unlink()
