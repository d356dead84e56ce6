"""Calls the command's `main` for each line of arguments (JSON) that it reads."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback

from cc_source_routing.cli import main


def call(argv: list) -> dict:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as exit_:
            code = exit_.code
        except Exception:  # noqa: BLE001 - a test reports whatever came out
            traceback.print_exc()
            code = 70
    return {"code": int(code or 0), "out": out.getvalue(), "err": err.getvalue()}


for line in sys.stdin:
    print(json.dumps(call(json.loads(line))), flush=True)
