"""What all renderers share: names for iproute2, `ip -batch` lines, the templates.

Pure.  Every value that is rendered into a file passes `shell_safe` or `safe_name`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..errors import FileError
from ..files.write import LONG_NAME, TABLE_NAMES_PATH
from ..model import (
    OUR_PROTOCOL,
    OUR_PROTOCOL_NAME,
    SCOPE_LINK,
    ConfigFile,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
    rule_order,
)
from ..text.names import id_fault, table_name_fault

PROTOCOL_NAMES_PATH = "/etc/iproute2/rt_protos.d/source-routing.conf"
COMMON_PATHS = (TABLE_NAMES_PATH, PROTOCOL_NAMES_PATH)
HEADER = "# Written by source-routing and lost at its next run; see source-routing --help.\n"

# Safe between single quotes in a shell script, and in a line of `ip -batch`, where
# quotes, # and backslashes are special too.
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_./:@%+=, -]*\Z")


def common_files(plan: RoutingPlan) -> tuple[ConfigFile, ...]:
    """Names for our tables and our protocol, so that `ip` prints them.

    The file also preserves each interface's table id: one that is down keeps its line.
    Without tables it is there all the same: `follow`, which may bring the first one, is
    not allowed to make new directories in /etc.
    """
    tables = {table: name for name, table in plan.reserved_tables.items()}
    tables.update((nic.table, nic.name) for nic in plan.nics)
    lines = []
    for table in sorted(tables):
        name = safe_name(tables[table])
        # If another table has the NIC's name (the hand-made script's), `ip route flush
        # table NIC` must still mean that one; and a NIC may be called main.
        if name in plan.taken_names or table_name_fault(name):
            name = LONG_NAME + name
        lines.append(f"{table}\t{name}\n")
    return (
        ConfigFile(TABLE_NAMES_PATH, HEADER + "".join(lines)),
        ConfigFile(PROTOCOL_NAMES_PATH, f"{HEADER}{OUR_PROTOCOL}\t{OUR_PROTOCOL_NAME}\n"),
    )


# -- ip -batch -------------------------------------------------------------------


def batch_up(plan: RoutingPlan, nic: PlannedNic, family: int) -> tuple[str, ...]:
    """The lines of ``ip -4 (or -6) -force -batch`` that restore `nic` in one family.

    () if the plan has nothing for it there.  Routes come before rules.  Each family has
    its own batch, since `ip rule add` takes the family only from the option (iproute2 6.1
    makes an IPv4 rule of ``from ::/0``).  Adding an existing rule fails with EEXIST,
    which is harmless.
    """
    routes = [route for route in nic.routes if route.family == family]
    own = [rule for rule in nic.rules if rule.family == family]
    if not routes and not own:
        return ()
    name = safe_name(nic.name)
    # The kernel looks up the gateway in the connected routes (fib_check_nh), so those first.
    routes.sort(key=lambda route: (route.gateway is not None, -route.dst.prefixlen))
    lines = [f"link set dev {name} group {plan.group}"]
    lines += [_route_line(route) for route in routes]
    lines += [f"rule add {_rule_words(rule)}" for rule in sorted(own, key=rule_order)]
    return tuple(shell_safe(line) for line in lines)


def batch_down(plan: RoutingPlan, nic: PlannedNic, family: int) -> tuple[str, ...]:
    """The lines that delete the rules of `nic` itself in one family.

    The kernel deletes its routes with the link; a rule that looks up the empty table
    would let its addresses fall through to main, by the wrong NIC.
    """
    own = [rule for rule in nic.rules if rule.family == family]
    safe_name(nic.name)
    return tuple(shell_safe(f"rule del {_rule_words(r)}") for r in sorted(own, key=rule_order))


def _route_line(route: Route) -> str:
    words: list[str] = ["route replace"]
    if route.type != "unicast":
        words.append(route.type)
    words.append(str(route.dst) if route.dst.prefixlen else "default")
    if route.gateway is not None:
        words.append(f"via {route.gateway}")
    if route.dev:
        words.append(f"dev {safe_name(route.dev)}")
    words.append(f"table {route.table} proto {route.protocol}")
    if route.scope == SCOPE_LINK and route.family == 4:
        words.append("scope link")
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.onlink:
        words.append("onlink")
    return " ".join(words)


def _rule_words(rule: Rule) -> str:
    if rule.other:
        raise FileError(f"our rules cannot have {rule.other}")
    words = [f"from {rule.src if rule.src and rule.src.prefixlen else 'all'}"]
    if rule.dst is not None:
        words.append(f"to {rule.dst}")
    if rule.oif:
        words.append(f"oif {safe_name(rule.oif)}")
    if rule.fwmark or rule.fwmask:
        words.append(f"fwmark {rule.fwmark:#x}/{rule.fwmask:#x}")
    words.append(f"priority {rule.priority} lookup {rule.table}")
    if rule.suppress_prefixlength is not None:
        words.append(f"suppress_prefixlength {rule.suppress_prefixlength}")
    if rule.suppress_ifgroup is not None:
        words.append(f"suppress_ifgroup {rule.suppress_ifgroup}")
    # Without it the kernel would not see it as equal to the one added by netlink (rule_exists).
    words.append(f"protocol {rule.protocol}")
    return " ".join(words)


# -- templates -------------------------------------------------------------------


def safe_name(name: str) -> str:
    """`name` if it is safe as an interface name in a file; else raises `FileError`."""
    fault = id_fault(name)
    if fault:
        raise FileError(f"the interface name {ascii(name)} {fault}")
    return name


def shell_safe(value: Any) -> str:
    """`value` as text without special meaning in single quotes; else raises `FileError`."""
    text = str(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not _SHELL_SAFE.match(text):
        raise FileError(f"{ascii(value)} is not fit for a shell script")
    return text


def render_template(name: str, **values: Any) -> str:
    """Render the template `name`; `shell_safe` checks each value as it is printed."""
    environment = _environment()
    template = environment.get_template(name)
    return str(template.render(header=HEADER.rstrip("\n"), **values))


@cache
def _environment() -> Any:
    import jinja2  # not at the top: a plan without hooks needs no templates

    return jinja2.Environment(
        loader=jinja2.PackageLoader("cc_source_routing", "templates"),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: Any) -> Any:
    if type(value).__name__ == "StrictUndefined":
        return value  # jinja2's own error names the variable
    return value if value == HEADER.rstrip("\n") else shell_safe(value)
