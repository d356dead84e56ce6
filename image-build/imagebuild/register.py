#!/usr/bin/python3
"""Register source_routing with the cloud-init of the system that this runs on.

It changes cloud-init's module list and schema.  Run it again after cloud-init has
changed; package triggers do that.  It changes nothing if both are already correct.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# Write no bytecode, which a removal would not find.
sys.dont_write_bytecode = True

# In the image these modules are beside this file, without a package.
if TYPE_CHECKING:
    from . import inside, modulelist, schemafile, wholefile
else:
    import inside
    import modulelist
    import schemafile
    import wholefile

DROP_IN = Path(modulelist.CONFD) / modulelist.MODULES_DROP_IN


def main() -> int:
    parser = argparse.ArgumentParser(prog="register", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only tell what is not as it should be")
    what.add_argument("--remove", action="store_true", help="take all of it back")
    arguments = parser.parse_args()
    steps = [
        (list_module, check_list, unlist_module),
        (schemafile.teach, schemafile.untaught, schemafile.forget),
    ]
    failed = False
    for make, check, remove in steps:
        # A fault in one of them must not prevent the other.
        try:
            if arguments.check:
                for fault in check():
                    failed = True
                    print(fault)
                continue
            for path in remove() if arguments.remove else make():
                undone = "restored" if path.exists() else "removed"
                print(f"{undone if arguments.remove else 'wrote'} {path}")
        except (modulelist.RegistrationError, OSError) as error:
            failed = True
            print(f"register: {error}", file=sys.stderr)
        except (ImportError, SyntaxError, AttributeError, ValueError) as error:
            # This runs cloud-init's own code, whose files dpkg replaces one after the other.
            failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(
                f"register: cloud-init is not whole ({reason}); to be run again once it is",
                file=sys.stderr,
            )
    return 1 if failed else 0


def list_module() -> list[Path]:
    text = wanted_list()
    if text == present_list():
        return []
    if text is None:
        DROP_IN.unlink()
    else:
        wholefile.replace(DROP_IN, text.encode())
    return [DROP_IN]


def check_list() -> list[str]:
    same = wanted_list() == present_list()
    return [] if same else [f"{DROP_IN} is not the present list of modules with ours added"]


def unlist_module() -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        DROP_IN.unlink()
        return [DROP_IN]
    return []


def wanted_list() -> str | None:
    """The wanted drop-in; None if the image lists the module itself."""
    ours = [modulelist.MODULES_DROP_IN, modulelist.DEFAULT_DROP_IN]
    entries, _later = inside.effective(None, modulelist.MODULES_DROP_IN, ours)
    text = modulelist.drop_in(entries)
    _entries, later = inside.effective(text, modulelist.MODULES_DROP_IN, ours)
    if later and text is not None:
        names = ", ".join(f"{modulelist.CONFD}/{name}" for name in later)
        raise modulelist.RegistrationError(f"{names} would replace our list of modules")
    return text


def present_list() -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return DROP_IN.read_text(encoding="utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
