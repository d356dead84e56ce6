"""Nova's metadata service as servers see it: http://169.254.169.254 behind any of their routers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from imagebuild.lab.config_drive import ConfigDrive
from imagebuild.lab.network import Lab

from .daemon import Daemon

ADDRESS = "169.254.169.254"
# For an image; cloud-init then looks for no other source, and asks at once.
DATASOURCE = {"/etc/cloud/cloud.cfg.d/95-lab-datasource.cfg": "datasource_list: [OpenStack]\n"}

# The documents come on standard input, as JSON: path -> text.
_SERVER = """
import http.server, json, sys
documents = json.load(sys.stdin)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = documents.get(self.path.strip("/"))
        self.send_response(404 if text is None else 200)
        body = (text or "").encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

with http.server.ThreadingHTTPServer((sys.argv[1], 80), Handler) as server:
    print("serves", flush=True)
    server.serve_forever()
"""


class ByService(ConfigDrive):
    """What the service tells a server of: no drive is attached to that."""

    def write_tree(self, where: object) -> None:
        pass


class MetadataService(Daemon):
    """Serves one server's documents from the router of its lab."""

    def __init__(self, lab: Lab, scratch: Path):
        super().__init__(lab, scratch / "metadata.log")
        lab.router.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"])

    def tells(self, drive: ConfigDrive) -> None:
        """(Re)start it with what `drive` would hold."""
        documents = json.dumps({"openstack": "latest\n", **drive.files()})
        self.run((sys.executable, "-c", _SERVER, ADDRESS), "serves", documents)
