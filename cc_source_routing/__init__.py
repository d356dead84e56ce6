"""Source-based routing for servers with several NICs: the cloud-init face.

cloud-init finds this package as the module ``source_routing`` and imports it
at every boot, stanza or not; an exception here would cost the instance all
modules of the stage.  So this file knows the standard library alone, does
next to nothing, and hands real work to `cc_source_routing.cloud_init`.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

SAVED_INSTANCE = "/etc/source-routing/instance-id"

# cloud-init <= 22.1 reads these two, later releases `meta`; "always", because a
# per-instance module that failed once is never run again.
frequency = "always"
distros: List[str] = ["all"]

# A plain dict: the type of it has moved between cloud-init releases.
meta: Dict[str, Any] = {
    "id": "cc_source_routing",
    "name": "Source routing",
    "title": "Answer on every address of every NIC",
    "description": "Policy routing by source address for servers with several NICs.",
    "distros": distros,
    "frequency": frequency,
    "examples": ["source_routing: true\n"],
    "activate_by_schema_keys": [],
}


def handle(name: str, cfg: Any, *args: Any, **kwargs: Any) -> None:
    """Apply the ``source_routing:`` stanza of `cfg`; never raises.

    Called with (name, cfg, cloud, log, args) up to cloud-init 23.1 and with
    keywords from 23.2 on; four parameters serve both without a deprecation.
    """
    try:
        stanza = cfg.get("source_routing")
        # Without one, what is there stays, unless a snapshot has brought it along.
        if stanza is None and not os.path.exists(SAVED_INSTANCE):
            return
        from .cloud_init import run

        run(stanza, kwargs.get("cloud", args[0] if args else None))
    except Exception:
        import logging

        logging.getLogger(__name__).exception("source_routing failed; the boot goes on")
