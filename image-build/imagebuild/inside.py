"""Query cloud-init from inside an image, with its interpreter; JSON in, JSON out.

The program is sent over standard input, so it imports nothing of this package; the
request is its only argument.  It calls cloud-init's own code, since releases differ in
how they merge drop-ins, read module names and find modules.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

NEEDED = ("pyroute2", "jinja2", "jsonschema", "yaml")
"""Modules that our module imports when it has a stanza."""


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """`request`: drop_in (name), ours (names of all our drop-ins), text, staging."""
    import cloudinit
    from cloudinit import version

    staging = request.get("staging")
    if staging:
        sys.path.insert(0, staging)
    merged, overridden_by = effective(request.get("text"), request["drop_in"], request["ours"])
    return {
        # The real path: an image's links may be absolute, relative to the image.
        "site": os.path.dirname(os.path.dirname(os.path.realpath(cloudinit.__file__))),
        # Whether this Python does not use the distribution's packages.
        "alone": os.path.realpath(sys.base_prefix) not in ("/usr", "/")
        or sys.base_prefix not in site.PREFIXES,
        "cloud_init": version.version_string(),
        "python": ".".join(map(str, sys.version_info[:2])),
        "missing": [name for name in NEEDED if not importable(name)],
        "modules": merged,
        "overridden_by": overridden_by,
        "finds": finds(request["module"]) if request.get("find") else None,
    }


def effective(
    text: str | None, drop_in: str, ours: list[str]
) -> tuple[list[Any] | None, list[str]]:
    """cloud_init_modules as cloud-init merges it, and the drop-ins that set it after ours.

    The merge of cloud.cfg and its drop-ins leaves our own ones out if `text` is None, and
    takes `text` as ours otherwise.
    """
    from cloudinit import util

    with tempfile.TemporaryDirectory() as scratch:
        copy = os.path.join(scratch, "cloud.cfg")
        shutil.copy("/etc/cloud/cloud.cfg", copy)
        confd = copy + ".d"
        if os.path.isdir("/etc/cloud/cloud.cfg.d"):
            shutil.copytree("/etc/cloud/cloud.cfg.d", confd, ignore=shutil.ignore_patterns(*ours))
        os.makedirs(confd, exist_ok=True)
        if text is not None:
            with open(os.path.join(confd, drop_in), "w", encoding="utf-8") as handle:
                handle.write(text)
        later = [
            name
            for name in sorted(os.listdir(confd))
            if name.endswith(".cfg")
            and name > drop_in
            and "cloud_init_modules" in (util.read_conf(os.path.join(confd, name)) or {})
        ]
        base = util.read_conf(copy) or {}
        if base.get("conf_d"):
            raise SystemExit("cloud.cfg names another drop-in directory (conf_d)")
        return util.read_conf_with_confd(copy).get("cloud_init_modules"), later


def importable(name: str) -> bool:
    """Whether this interpreter can import `name` with all its dependencies."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def finds(name: str) -> str | None:
    """The file in which cloud-init's own code finds the module `name`, or None."""
    from cloudinit.config import modules

    reader = modules.Modules.__new__(modules.Modules)
    found = reader._fixup_modules([{"mod": name}])
    if not found:
        return None
    first = found[0]
    # A list up to 22.1, a named tuple since.
    module = getattr(first, "module", None) or first[0]
    return os.path.realpath(str(module.__file__))


if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(sys.argv[1]))))
