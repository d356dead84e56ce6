"""Format routes and rules in the syntax of ip-route(8) and ip-rule(8)."""

from __future__ import annotations

from ..model import TABLE_MAIN, IPNetwork, Route, Rule


def describe_route(route: Route) -> str:
    """Format a route as ip-route(8) accepts it."""
    words = [] if route.type == "unicast" else [route.type]
    words.append("default" if route.dst.prefixlen == 0 else str(route.dst))
    if route.gateway is not None:
        words += ["via", str(route.gateway)]
    if route.dev:
        words += ["dev", route.dev]
    words += ["table", str(route.table)]
    if route.onlink:
        words.append("onlink")
    return " ".join(words)


def _network_text(network: IPNetwork) -> str:
    """Format a prefix as ip-rule(8) prints it: a single address without its length."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address if single else network)


def describe_rule(rule: Rule) -> str:
    """Format a rule as ip-rule(8) accepts it."""
    everything = {4: "all", 6: "::/0"}[rule.family]
    source = everything if rule.src is None else _network_text(rule.src)
    words = ["from", source]
    if rule.dst is not None:
        words += ["to", _network_text(rule.dst)]
    if rule.oif:
        words += ["oif", rule.oif]
    if rule.fwmark:
        words += ["fwmark", f"{rule.fwmark:#x}/{rule.fwmask:#x}"]
    words += ["lookup", "main" if rule.table == TABLE_MAIN else str(rule.table)]
    if rule.suppress_prefixlength is not None:
        words += ["suppress_prefixlength", str(rule.suppress_prefixlength)]
    if rule.suppress_ifgroup is not None:
        words += ["suppress_ifgroup", str(rule.suppress_ifgroup)]
    words += ["priority", str(rule.priority)]
    return " ".join(words)
