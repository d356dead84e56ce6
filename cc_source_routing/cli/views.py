"""Format views and outcomes as text (tables, sentences) and as JSON values.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine import Outcome, View
from ..kernel.diff import AddRule, DeleteRule, ReplaceRoute
from ..kernel.verify import Reply, dropped_by_rp_filter, rp_filter
from ..model import FAMILIES, TABLE_MAIN, PlannedNic, Rule
from ..plan.host_index import HostIndex
from ..text.ip_words import describe_route, describe_rule

JsonDict = dict[str, Any]
MAX_NICS_IN_SUMMARY = 4


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns fit their content, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def status_text(view: View) -> str:
    """NICs, addresses, tables, gateways with their origin, rules."""
    lines: list[str] = []
    rows = []
    for nic in view.plan.nics:
        for family in FAMILIES:
            gateway = nic.gateway(family)
            if gateway is None:
                continue
            own = [(str(i), i.ip) for i in nic.addresses if i.version == family]
            own += [(f"from {n}", n[0]) for n in nic.sources if n.version == family]
            for shown, first in own:
                rows.append(
                    (
                        nic.name,
                        shown,
                        str(nic.table),
                        str(gateway.ip),
                        gateway.reason,
                        _rules_state(view, nic, first),
                    )
                )
    if rows:
        lines.append(table(("NIC", "ADDRESS", "TABLE", "GATEWAY", "HOW WE KNOW", "RULES"), rows))
    else:
        lines.append(f"Nothing to do: {view.plan.reason}.")
    for name, reason in view.plan.unserved.items():
        lines.append(f"{name} is not managed: {reason}.")
    if view.stanza.enabled:
        lines.append(f"Renderer: {view.renderer} ({view.renderer_reason}).")
    if view.operations:
        lines.append(
            f"The kernel differs from the plan in {_count(len(view.operations), 'point')}; "
            "`source-routing check` lists them, `source-routing apply` mends them."
        )
    return "\n".join(lines)


def plan_text(view: View, pending_files: Sequence[str]) -> str:
    """The plan, and what an apply would change."""
    lines = [status_text(view), ""]
    rules = view.plan.rules
    if rules:
        lines.append("Rules:")
        lines += [f"  {_rule_line(rule)}" for rule in rules]
    for nic in view.plan.nics:
        lines.append(f"Table {nic.table} ({nic.name}):")
        lines += [f"  {describe_route(route)}" for route in nic.routes]
    if view.files:
        lines.append("Files:")
        lines += [f"  {file.path}" for file in view.files]
    lines.append("")
    changes = [operation.describe() for operation in view.operations]
    changes += [f"file {text}" for text in pending_files]
    if changes:
        lines.append(f"An apply would do {_count(len(changes), 'change')}:")
        lines += [f"  {text}" for text in changes]
    else:
        lines.append("An apply would change nothing.")
    return "\n".join(lines).strip("\n")


def outcome_text(outcome: Outcome) -> str:
    """What an apply changed."""
    lines = [operation.describe() for operation in outcome.operations]
    lines += [f"wrote {path}" for path in outcome.files.written]
    lines += [f"removed {path}" for path in outcome.files.removed]
    if not lines:
        reason = outcome.view.plan.reason
        return (
            f"Nothing to change: {reason}." if reason else "Nothing to change: all is as planned."
        )
    lines.append(f"{'; '.join([_count(len(lines), 'change'), *_summary(outcome)])}.")
    return "\n".join(lines)


def _summary(outcome: Outcome) -> list[str]:
    """The NICs that are new or use another gateway, with the reason, and those no longer served.

    Hooks write this, the last line of output, to the journal.
    """
    plan = outcome.view.plan
    added: set[int] = set()
    deleted: set[int] = set()
    for operation in outcome.operations:
        if isinstance(operation, (AddRule, DeleteRule)):
            changed = added if isinstance(operation, AddRule) else deleted
            changed.add(operation.rule.table)
        elif isinstance(operation, ReplaceRoute) and operation.route.dst.prefixlen == 0:
            added.add(operation.route.table)
    changes = [
        f"{nic.name} by "
        + " and ".join(f"{gateway.ip} ({gateway.reason})" for gateway in nic.gateways.values())
        for nic in plan.nics
        if nic.table in added
    ]
    served = {nic.table for nic in plan.nics}
    for name, table in outcome.view.state.saved_tables.items():
        if table in deleted - served:
            reason = plan.unserved.get(name, plan.reason or "it is gone")
            changes.append(f"{name} no more ({reason})")
    if len(changes) > MAX_NICS_IN_SUMMARY:
        changes[MAX_NICS_IN_SUMMARY:] = [f"{len(changes) - MAX_NICS_IN_SUMMARY} more"]
    return changes


def outcome_json(outcome: Outcome) -> JsonDict:
    return {
        "changed": outcome.changed,
        "operations": [operation.describe() for operation in outcome.operations],
        "files": {
            "written": list(outcome.files.written),
            "removed": list(outcome.files.removed),
        },
        "reason": outcome.view.plan.reason,
        "warnings": list(outcome.view.warnings),
    }


def view_json(view: View) -> JsonDict:
    """Everything that `status` and `plan` show."""
    return {
        "enabled": view.stanza.enabled,
        "reason": view.plan.reason,
        "renderer": view.renderer,
        "renderer_reason": view.renderer_reason,
        "group": view.plan.group,
        "interfaces": {nic.name: _nic_json(nic) for nic in view.plan.nics},
        "rules": [describe_rule(rule) for rule in view.plan.rules],
        "unmanaged": dict(view.plan.unserved),
        "files": [file.path for file in view.files],
        "pending": [operation.describe() for operation in view.operations],
        "warnings": list(view.warnings),
    }


def _nic_json(nic: PlannedNic) -> JsonDict:
    gateways: dict[str, Any] = {}
    for family, gateway in sorted(nic.gateways.items()):
        gateways[f"ipv{family}"] = {
            "address": str(gateway.ip),
            "source": gateway.source,
            "reason": gateway.reason,
            "onlink": gateway.onlink,
        }
    return {
        "mac": nic.mac,
        "table": nic.table,
        "addresses": [str(interface) for interface in nic.addresses],
        "sources": [str(prefix) for prefix in nic.sources],
        "gateways": gateways,
        "routes": [describe_route(route) for route in nic.routes],
        "rules": [describe_rule(rule) for rule in nic.rules],
    }


# -- explain -------------------------------------------------------------------


def explain_facts(reply: Reply, view: View) -> JsonDict:
    """Rule, table, route and NIC of a reply, and what would drop it."""
    state = view.state
    rule = reply.rule
    lookup = reply.lookup
    here = lookup is not None and lookup.type in ("local", "broadcast")
    leaves_right = here or (lookup is not None and lookup.dev == reply.owner)
    # Anti-spoofing applies only to packets that leave by a port of the cloud.
    ported = lookup is None or not view.plan.nics or view.plan.nic(lookup.dev) is not None
    error = HostIndex(state).error_default(reply.source.version)
    return {
        "from": str(reply.source),
        "to": str(reply.destination),
        "owner": reply.owner,
        "dev": lookup.dev if lookup else None,
        "gateway": str(lookup.gateway) if lookup and lookup.gateway else None,
        "gateway_answers": reply.next_hop_answers,
        "table": lookup.table if lookup else None,
        "route": str(lookup.dst) if lookup else None,
        "rule": describe_rule(rule) if rule else None,
        "foreign": reply.foreign,
        "rp_filter": {
            "value": rp_filter(state, reply.owner),
            "drops": dropped_by_rp_filter(reply, view.plan, state),
        },
        "anti_spoofing": {"drops": lookup is not None and ported and not leaves_right},
        "error_default": describe_route(error) if error else None,
        "here": here,
        "right": reply.right,
    }


def explain_text(facts: JsonDict) -> str:
    lines = [f"A packet from {facts['from']} ({facts['owner']}) to {facts['to']}:"]
    if facts["here"]:
        return f"{lines[0]}\n  is for this host itself."
    if facts["dev"] is None:
        lines.append("  has no route and goes nowhere.")
    else:
        via = f" via {facts['gateway']}" if facts["gateway"] else ""
        table_name = "main" if facts["table"] == TABLE_MAIN else facts["table"]
        lines += [
            f"  rule      {facts['rule'] or 'unknown (not one of this program)'}"
            + (" (not ours)" if facts["foreign"] else ""),
            f"  table     {table_name}",
            f"  route     {'default' if facts['route'].endswith('/0') else facts['route']}{via}",
            f"  leaves by {facts['dev']}",
        ]
    filtered = facts["rp_filter"]
    verdicts = []
    if facts["error_default"]:
        verdicts.append(
            f"Table main's best default is an error ({facts['error_default']}), so this family "
            "is left alone."
        )
    if filtered["drops"]:
        verdicts.append(
            f"rp_filter={filtered['value']} on {facts['owner']} drops what comes in from "
            f"{facts['to']}: its reply would not leave by {facts['owner']}."
        )
    if facts["anti_spoofing"]["drops"]:
        verdicts.append(
            f"A port with anti-spoofing behind {facts['dev']} drops it: "
            f"{facts['from']} is not an address of {facts['dev']}."
        )
    if facts["gateway_answers"] is False:
        verdicts.append(
            f"{facts['gateway']} does not answer on {facts['dev']}: it gets no further."
        )
    if facts["right"] and not verdicts and facts["dev"] == facts["owner"]:
        verdicts.append("Nothing on the way out drops it: it leaves by the NIC that owns it.")
    elif facts["right"]:
        whose = "Table main" if facts["table"] == TABLE_MAIN else f"Table {facts['table']}"
        verdicts.append(f"{whose} has a specific route there, which is left to decide.")
    return "\n".join([*lines, *verdicts])


# -- helpers -------------------------------------------------------------------


def _rules_state(view: View, nic: PlannedNic, ip: object) -> str:
    """Whether all rules of an address are in the kernel."""
    have = {rule.key for rule in view.state.rules}
    own = [rule for rule in nic.rules if rule.src is not None and rule.src.network_address == ip]
    found = sum(rule.key in have for rule in own)
    return "ok" if found == len(own) else f"{found} of {len(own)}"


def _rule_line(rule: Rule) -> str:
    text, _, priority = describe_rule(rule).rpartition(" priority ")
    return f"{priority}: {text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
