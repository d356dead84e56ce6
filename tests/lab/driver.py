"""Calls the command's `main` for each request (a line of JSON) that it reads.

``{"argv": [...]}`` calls it in this process.  ``{"argv": [...], "die_at": N}``
forks, and the child kills itself (SIGKILL) before its Nth operation on the
kernel, so that every point of an apply can be the last.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from cc_source_routing import netlink
from cc_source_routing.cli import main


def call(argv: list[str]) -> dict[str, object]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as ended:
            code = ended.code
        except Exception:  # noqa: BLE001 - a test reports whatever came out
            traceback.print_exc()
            code = 70
    return {"code": int(code or 0), "out": out.getvalue(), "err": err.getvalue()}


def call_and_die(argv: list[str], die_at: int) -> dict[str, object]:
    child = os.fork()
    if child:
        _pid, status = os.waitpid(child, 0)
        return {"code": os.waitstatus_to_exitcode(status), "out": "", "err": ""}
    execute = netlink.Kernel.execute
    done = 0

    def one_by_one(kernel: netlink.Kernel, operations: Sequence[object]) -> None:
        nonlocal done
        for operation in operations:
            if done == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            execute(kernel, (operation,))

    netlink.Kernel.execute = one_by_one
    os._exit(call(argv)["code"])


for line in sys.stdin:
    request = json.loads(line)
    if "die_at" in request:
        answer = call_and_die(request["argv"], request["die_at"])
    else:
        answer = call(request["argv"])
    print(json.dumps(answer), flush=True)
