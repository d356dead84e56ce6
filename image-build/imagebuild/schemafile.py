"""Add our key to cloud-init's own JSON schema, and remove it again.

Since 23.4 the schema forbids unknown top-level keys, and a server whose
user-data has one is "degraded"; the only way to extend it is to replace the file
(canonical/cloud-init#5558).  So our file takes its place.  The original is kept
beside it, under a dpkg diversion: `dpkg -V` finds no difference, and an upgrade of
cloud-init replaces the original.

Part of the installer, and shipped to images beside `register`: the standard
library alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In the image these modules are beside this file, without a package.
if TYPE_CHECKING:
    from . import wholefile
    from .modulelist import MODULE, RegistrationError
else:
    import wholefile
    from modulelist import MODULE, RegistrationError

# dpkg's usual suffix for a diverted file.
ASIDE = ".distrib"
_DEFINITION = "cc_source_routing"
_OWNER = "source-routing"  # the package that owns the diversion


def teach() -> list[Path]:
    """Add the stanza to the installed schema; returns the changed files."""
    return [path for path in _files() if _teach(path)]


def rehearse() -> None:
    """Raise the errors that `teach` would raise; changes nothing."""
    for path in _files():
        _taught(_original(path))


def untaught() -> list[str]:
    """A sentence for each schema file that lacks our current stanza."""
    files = _files()
    faults = [] if files else ["cloud-init has no schema of cloud-config"]
    for path in files:
        if path.read_bytes() != _taught(_original(path)):
            faults.append(f"{path} does not know this version of the stanza")
        elif not aside(path).exists():
            faults.append(f"{aside(path)}, the distribution's schema, is gone")
    return faults


def forget() -> list[Path]:
    """Restore the originals; returns the changed files."""
    changed = []
    for path in _files():
        _divert("--remove", path)
        if aside(path).exists():
            if _is_taught(path.read_bytes()):
                os.replace(aside(path), path)
            else:
                # A package manager without diversions has replaced our file.
                aside(path).unlink()
            changed.append(path)
    return changed


def aside(path: Path) -> Path:
    return path.with_name(path.name + ASIDE)


def extended(document: dict[str, Any], stanza: dict[str, Any]) -> dict[str, Any]:
    """cloud-init's schema `document` with our stanza's schema added."""
    try:
        definitions, members = dict(document["$defs"]), list(document["allOf"])
        modules = list(definitions["all_modules"]["enum"])
    except (KeyError, TypeError) as error:
        raise RegistrationError(
            f"cloud-init's schema is not of the known shape, it lacks {error}"
        ) from error
    own = _fit(stanza)
    own.pop("$schema", None)
    own.pop("title", None)
    definitions[_DEFINITION] = {"type": "object", "properties": {MODULE: own}}
    # For user-data that sets cloud_init_modules itself.
    definitions["all_modules"] = {
        **definitions["all_modules"],
        "enum": [*modules, MODULE.replace("_", "-"), MODULE],
    }
    result = {**document, "$defs": definitions}
    result["allOf"] = [*members, {"$ref": f"#/$defs/{_DEFINITION}"}]
    if "properties" in document:  # 23.4 and later
        result["properties"] = {**document["properties"], MODULE: {}}
    return result


def _fit(schema: Any) -> Any:
    """`schema` without the keywords at which cloud-init's validator fails.

    Its ``is_valid`` raises TypeError at "not" (22.4 to 25.1, with jsonschema 4), which would
    abort the boot stage; the module itself still checks everything.
    """
    if isinstance(schema, dict):
        return {key: _fit(value) for key, value in schema.items() if key != "not"}
    if isinstance(schema, list):
        return [_fit(value) for value in schema]
    return schema


def _files() -> list[Path]:
    found = importlib.util.find_spec("cloudinit")
    if found is None or not found.submodule_search_locations:
        raise RegistrationError("there is no cloud-init for this Python")
    directory = Path(found.submodule_search_locations[0]) / "config/schemas"
    return sorted(directory.glob("schema-cloud-config-v*.json"))


def _original(path: Path) -> bytes:
    """The distribution's own file: dpkg upgrades the diverted one, rpm replaces ours."""
    content = path.read_bytes()
    return aside(path).read_bytes() if _is_taught(content) and aside(path).exists() else content


def _is_taught(content: bytes) -> bool:
    return f'"#/$defs/{_DEFINITION}"'.encode() in content


def _taught(original: bytes) -> bytes:
    found = importlib.util.find_spec("cc_source_routing")
    if found is None or not found.submodule_search_locations:
        raise RegistrationError("there is no cc_source_routing for this Python")
    stanza = Path(found.submodule_search_locations[0]) / "stanza/stanza.schema.json"
    if _is_taught(original):
        raise RegistrationError("the distribution's own schema is lost: reinstall cloud-init")
    try:
        document = extended(json.loads(original), json.loads(stanza.read_bytes()))
    except ValueError as error:
        raise RegistrationError(f"cloud-init's schema is no JSON: {error}") from error
    return (json.dumps(document, indent=2) + "\n").encode()


def _teach(path: Path) -> bool:
    """Replace the file; at each moment a complete file has its name."""
    wanted = _taught(_original(path))
    present = path.read_bytes()
    if present == wanted and aside(path).exists():
        _divert("--add", path)
        return False
    if not _is_taught(present):
        spare = path.with_name(f".{path.name}.{os.getpid()}")
        os.link(path, spare)
        os.replace(spare, aside(path))
    wholefile.replace(path, wanted)
    # Last, so that an upgrade of cloud-init in between only gives a new original.
    _divert("--add", path)
    return True


def _divert(how: str, path: Path) -> None:
    if shutil.which("dpkg-divert") is None:
        return
    # This module moves the files; dpkg only records the diversion.
    argv = ["dpkg-divert", "--quiet", "--package", _OWNER, "--no-rename"]
    argv += ["--divert", str(aside(path)), how, str(path)]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise RegistrationError(done.stderr.strip() or f"{argv[0]} {how} {path} failed")
