"""Nova's metadata service as servers see it: http://169.254.169.254 behind any of their routers."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from imagebuild.configdrive import ConfigDrive
from imagebuild.lab import Lab

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

http.server.ThreadingHTTPServer((sys.argv[1], 80), Handler).serve_forever()
"""


class ByService(ConfigDrive):
    """What the service tells a server of: no drive is attached to that."""

    def write_tree(self, where: object) -> None:
        pass


class MetadataService:
    """Serves one server's documents from the router of its lab."""

    def __init__(self, lab: Lab):
        self._lab = lab
        self._process: subprocess.Popen[str] | None = None
        lab.router.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"])

    def tells(self, drive: ConfigDrive) -> None:
        """(Re)start it with what `drive` would hold."""
        self.stop()
        argv = [*self._lab.router.prefix(), "setpriv", "--pdeathsig", "KILL"]
        argv += [sys.executable, "-c", _SERVER, ADDRESS]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        json.dump({"openstack": "latest\n", **drive.files()}, self._process.stdin)
        self._process.stdin.close()
        time.sleep(0.3)
        if self._process.poll() is not None:
            raise RuntimeError("the metadata service does not run")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
