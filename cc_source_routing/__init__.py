"""Source-based routing for servers with several NICs: the entry point for cloud-init.

cloud-init finds this package as the module ``source_routing`` and imports it at
every boot, with or without a stanza.  An exception here would cost the instance all
modules of the stage.  So this file imports only the standard library, does as little
as possible, and delegates to `cc_source_routing.cloud_init`.
"""

from __future__ import annotations

import os
from typing import Any

SAVED_INSTANCE = "/etc/source-routing/instance-id"

# cloud-init <= 22.1 reads these two, later releases read `meta`.  "always", because
# cloud-init never retries a per-instance module that failed.
frequency = "always"
distros: list[str] = ["all"]

# A plain dict, since its type has moved between cloud-init releases.
meta: dict[str, Any] = {
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

    cloud-init calls it with (name, cfg, cloud, log, args) up to 23.1 and with keywords
    from 23.2 on; this signature serves both without a deprecation warning.
    """
    try:
        stanza = cfg.get("source_routing")
        # Without a stanza the existing setup stays, unless it came with another
        # instance's snapshot.
        if stanza is None and not os.path.exists(SAVED_INSTANCE):
            return
        from .cloud_init import run

        run(stanza, kwargs.get("cloud", args[0] if args else None))
    except Exception:
        import logging

        logging.getLogger(__name__).exception("source_routing failed; the boot goes on")
