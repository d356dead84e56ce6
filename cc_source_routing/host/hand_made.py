"""Find the leftovers of hand-made source routing on a host where the plan does the same.

In hand-made set-ups rt_tables names a table after each NIC, and a script fills it and adds a rule
whenever the NIC comes up.  Nothing of that is taken over, shared or removed; it is reported to the
user.  This module only reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import FileError
from ..files.read import list_names
from ..files.write import TABLE_NAMES_PATH, read_text, table_names
from ..model import OUR_PROTOCOL, RESERVED_TABLES, HostState, RoutingPlan, Rule
from ..text.ip_words import describe_rule

# The places whose commands run when a NIC comes up: interfaces(5), networkd-dispatcher(8),
# NetworkManager-dispatcher(8).
INTERFACES = "/etc/network/interfaces"
INTERFACES_FOLDER = "/etc/network/interfaces.d"
HOOK_FOLDERS = (
    "/etc/network/if-up.d",
    "/etc/networkd-dispatcher/routable.d",
    "/etc/networkd-dispatcher/configured.d",
    "/etc/NetworkManager/dispatcher.d",
)
SCRIPT_LIMIT = 64 * 1024
OUR_NAME = "source-routing"

_UP_LINE = re.compile(r"\s*(?:post-up|up)\s+(.+)")
_MAKES_RULES = re.compile(r"\bip\s+(?:-\S+\s+)*rule\s+(?:add|replace)\b")


def leftovers(root: Path, plan: RoutingPlan, state: HostState) -> list[str]:
    """A sentence for each leftover that does what the plan does, with how to remove it."""
    if not plan.nics:
        return []
    return [*_named_tables(root, state), *_commands(root), *_rules(plan, state)]


def _named_tables(root: Path, state: HostState) -> Iterator[str]:
    nics = {link.name for link in state.links}
    for line in table_names(root):
        if line.path != TABLE_NAMES_PATH and line.name in nics:
            yield (
                f"{line.path} names table {line.table} {line.name}, as for source routing by "
                "hand; remove that line when nothing uses it any more"
            )


def _commands(root: Path) -> Iterator[str]:
    """Lines and scripts of the network managers that add rules."""
    paths = [INTERFACES, *_in(root, INTERFACES_FOLDER)]
    for path in paths:
        for command in _commands_of(_text(root, path)):
            script = command.split()[0]
            if _MAKES_RULES.search(command):
                yield f"{path} adds rules of its own ({command}); remove that line"
            elif _adds_rules(root, script):
                yield f"{path} runs {script}, which adds rules of its own; remove that line"
    for folder in HOOK_FOLDERS:
        for path in _in(root, folder):
            if OUR_NAME not in path and _adds_rules(root, path):
                yield f"{path} adds rules of its own; remove it if they are for source routing"


def _rules(plan: RoutingPlan, state: HostState) -> Iterator[str]:
    """Rules that look up, for one of our addresses, a foreign table with a default by its NIC."""
    ours = {rule.key for rule in plan.rules}
    defaults: dict[int, set[str]] = {}
    for route in state.routes:
        if route.dst.prefixlen == 0 and route.protocol != OUR_PROTOCOL:
            defaults.setdefault(route.table, set()).add(route.dev)
    for rule in state.rules:
        if rule.src is None or rule.dst or rule.other or rule.key in ours:
            continue
        if rule.table in RESERVED_TABLES:
            continue
        served = [nic.name for nic in plan.nics if any(a.ip in rule.src for a in nic.addresses)]
        if any(name in defaults.get(rule.table, ()) for name in served):
            yield (
                f"a rule that is not ours routes {' and '.join(served)} by source, too: "
                f"{describe_rule(rule)}; what makes it is not needed any more "
                f"(`{_deletion(rule)}` removes it)"
            )


def _deletion(rule: Rule) -> str:
    family = "-6 " if rule.family == 6 else ""
    return f"ip {family}rule del priority {rule.priority} from {rule.src}"


def _commands_of(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        match = _UP_LINE.match(line)
        if match is not None:
            yield match[1].strip()


def _adds_rules(root: Path, path: str) -> bool:
    if not path.startswith("/"):
        return False
    return _MAKES_RULES.search(_without_comments(_text(root, path))) is not None


def _without_comments(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))


def _text(root: Path, path: str) -> str:
    """A file's text; "" if it cannot be read or is not text, so that it is not reported."""
    try:
        text = read_text(root, path, SCRIPT_LIMIT) or ""
    except FileError:
        return ""
    return "" if "\0" in text else text


def _in(root: Path, folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in sorted(list_names(root, folder))]
    except FileError:
        return []
