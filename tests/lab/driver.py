"""Call the command's `main` for each request (a line of JSON) on standard input.

``{"argv": [...]}`` calls it in this process.  ``{"argv": [...], "where": KIND,
"at": N, "errno": E}`` does it in a child in which a fault is planted (`faults`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from typing import TextIO

from faults import PLANT, Fault

from cc_source_routing.cli.main import main


def call(argv: list[str]) -> dict[str, object]:
    # Files, since `follow` asks what its output is.
    with _output() as out, _output() as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(argv)
            except SystemExit as ended:
                code = ended.code
            except Exception:  # noqa: BLE001 - a test reports whatever came out
                traceback.print_exc()
                code = 70
        return {"code": int(code or 0), "out": _content(out), "err": _content(err)}


def _output() -> TextIO:
    return open(os.memfd_create("output"), "w+", encoding="utf-8", errors="surrogatepass")


def _content(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def call_with_fault(argv: list[str], where: str, at: int, number: int | None) -> dict[str, object]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writing, "w") as stream:

            def report(what: str) -> None:
                print(json.dumps({"fault": what}), file=stream, flush=True)

            PLANT[where](Fault(at, number, report))
            print(json.dumps(call(argv)), file=stream, flush=True)
            os._exit(0)
    os.close(writing)
    answer: dict[str, object] = {"out": "", "err": ""}
    with os.fdopen(reading) as lines:
        for line in lines:
            answer.update(json.loads(line))
    _pid, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), **answer}


print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "where" in request:
        answer = call_with_fault(request["argv"], request["where"], request["at"], request["errno"])
    else:
        answer = call(request["argv"])
    print(json.dumps(answer), flush=True)
