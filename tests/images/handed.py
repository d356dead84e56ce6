"""Runs inside a root: what its real cloud-init hands our module, case by case; JSON in and out.

cloud-init's own code reads the image's drop-ins, splits and merges vendor-data and
user-data, finds our module and calls it; only the datasource is ours.  Beside that it
says what `source-routing validate` makes of the same user-data.
"""

import base64
import contextlib
import json
import logging
import os
import shutil
import sys
from pathlib import Path

SOURCES = "/var/tmp/sources"
CONFD = "/etc/cloud/cloud.cfg.d"
INSTANCE_DATA = "/run/cloud-init/instance-data-sensitive.json"

sys.dont_write_bytecode = True
sys.path.insert(0, SOURCES)

from cloudinit import sources, stages  # noqa: E402
from cloudinit.config import modules  # noqa: E402
from cloudinit.settings import PER_INSTANCE  # noqa: E402

from cc_source_routing import cloud_init as cloud  # noqa: E402
from cc_source_routing import errors  # noqa: E402
from cc_source_routing.host.cloud_config import still_asked  # noqa: E402
from cc_source_routing.stanza import user_data as userdata  # noqa: E402


class Metadata(sources.DataSource):
    """A datasource whose documents are the case's."""

    dsname = "Case"

    def __init__(self, case, init):
        super().__init__(init.cfg, init.distro, init.paths)
        self.metadata = {"instance-id": "i-1"}
        self.userdata_raw = case["user"]
        # As the OpenStack datasource does with vendor_data.json and vendor_data2.json.
        self.vendordata_raw = sources.convert_vendordata(case.get("vendor"))
        self.vendordata2_raw = sources.convert_vendordata(case.get("vendor2"))

    def get_instance_id(self):
        return "i-1"


def handed(case):
    """What `handle` passes on, a list of at most one value, and what `status` would say of it.

    That is whether anything asks for source routing, by what cloud-init has left behind.
    """
    for path in ("/var/lib/cloud/instances", "/run/cloud-init"):
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/var/lib/cloud/instance")
    os.makedirs(os.path.dirname(INSTANCE_DATA))
    with open(INSTANCE_DATA, "w") as stream:
        json.dump({"v1": {"region": "north"}}, stream)
    written = [os.path.join(CONFD, f"{name}.cfg") for name in case.get("image", {})]
    for path, text in zip(written, case.get("image", {}).values()):
        with open(path, "w") as stream:
            stream.write(text)
    try:
        init = stages.Init()
        init.initialize()
        init.datasource = Metadata(case, init)
        init._reset()
        init.instancify()
        init.update()
        init.consume_data(PER_INSTANCE)
        asked = []
        cloud.run = lambda stanza, _cloud: asked.append(stanza)
        told, failed = modules.Modules(init, []).run_single("source_routing", freq="always")
        assert told or failed
        with open("/run/cloud-init/result.json", "w") as stream:
            stream.write("{}")  # as the last stage does
        return asked, still_asked(Path("/"))
    finally:
        for path in written:
            os.unlink(path)


def claimed(data):
    """What our own reader says of a user-data."""
    path = "/var/tmp/user-data"
    with open(path, "wb") as stream:
        stream.write(data)
    try:
        loaded = userdata.load_stanza_file(path)
    except errors.StanzaError as error:
        return {"faults": str(error)}
    return {
        "kind": loaded.kind,
        "stanza": loaded.stanza is not None,
        "handed": [] if loaded.handed is None else [loaded.handed],
        "unknown": list(loaded.unknown),
        "warnings": list(loaded.warnings),
    }


def main():
    logging.disable(logging.CRITICAL)
    with open("/var/tmp/cases.json") as stream:
        cases = json.load(stream)
    answers = []
    for case in cases:
        data = base64.b64decode(case["user"])
        try:
            asked, known = handed({**case, "user": data})
        except Exception:
            asked, known = [], None  # the boot's stage has failed, and nobody is called
        answers.append(
            {"handed": asked, "asked": known, "claimed": claimed(data) if data else None}
        )
    print("\n" + json.dumps(answers))


if __name__ == "__main__":
    main()
