"""The rules of one NIC: which table is looked up for a packet from its addresses.  Pure.

Each rule selects one of our addresses, a prefix that is routed to us or one of our devices, so that
no other packet is affected.  The rules have this order (the priority is `rule_priority` plus the
stage, T is the NIC's table, G the interface group of the managed NICs):

====== ==================================================== =========================
stage  rule                                                 decides
====== ==================================================== =========================
+0     from ADDR lookup main suppress_prefixlength 1        specific routes that leave
       suppress_ifgroup G                                   by no managed NIC
+5     from ADDR [to NET] lookup X suppress_prefixlength 1  the same in tables that
       suppress_ifgroup G                                   rules after ours look up
+10    from ADDR lookup T suppress_prefixlength 1           what main would send by a
                                                            sibling NIC
+15    from ADDR [to NET] lookup X suppress_prefixlength 1  specific routes of those
                                                            tables through our NICs
+20    from ADDR lookup main suppress_prefixlength 1        specific routes through
                                                            the own NIC
+30    from ADDR lookup T                                   the default
+35    oif NIC lookup main suppress_prefixlength 1          sockets bound to a device:
                                                            main's specific routes
+40    oif NIC lookup T                                     and their default
====== ==================================================== =========================

The tables X are looked up before main, as they are without source routing: Tailscale's 10.20.0.0/16
precedes a 10.0.0.0/8 of main through one of our NICs.

A prefix length of 1 or less is a default: VPNs capture all traffic with 0/1 and 128/1.  See
ip-rule(8) for the suppressors, and fib_rules_lookup in net/core/fib_rules.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from ipaddress import ip_network
from typing import NamedTuple

from ..model import (
    MAIN_PRIORITY,
    OUR_GROUP,
    OUR_PROTOCOL,
    RESERVED_TABLES,
    TABLE_MAIN,
    IPInterface,
    IPNetwork,
    Rule,
)

STAGE_MAIN_ELSEWHERE = 0
STAGE_OTHERS_ELSEWHERE = 5
STAGE_OWN_SPECIFIC = 10
STAGE_OTHERS_SPECIFIC = 15
STAGE_MAIN_SPECIFIC = 20
STAGE_OWN_DEFAULT = 30
STAGE_BOUND_SPECIFIC = 35
STAGE_BOUND_DEFAULT = 40
STAGES = (
    STAGE_MAIN_ELSEWHERE,
    STAGE_OTHERS_ELSEWHERE,
    STAGE_OWN_SPECIFIC,
    STAGE_OTHERS_SPECIFIC,
    STAGE_MAIN_SPECIFIC,
    STAGE_OWN_DEFAULT,
    STAGE_BOUND_SPECIFIC,
    STAGE_BOUND_DEFAULT,
)
# The stages that mirror rules of others, which may come and go at any time.
STAGES_OF_OTHERS = (STAGE_OTHERS_ELSEWHERE, STAGE_OTHERS_SPECIFIC)
# The longest prefix length that counts as a default.
DEFAULT_LENGTH = 1
# The most foreign tables that are looked up before our defaults: each costs two rules for each of
# our addresses.
MAX_FOREIGN_TABLES = 32


class Own(NamedTuple):
    """The values that the rules of one NIC and family contain."""

    family: int
    name: str
    table: int
    addresses: tuple[IPInterface, ...]
    mark: int = 0  # connection mark of published_ports; 0: none
    mark_mask: int = 0
    sources: tuple[IPNetwork, ...] = ()  # further prefixes besides the addresses


def own_rules(own: Own, priority: int, others: Sequence[Rule]) -> tuple[Rule, ...]:
    """All rules of one NIC and family; `others` is a result of `foreign_lookups`."""
    bare = Rule(own.family, priority, own.table, protocol=OUR_PROTOCOL)
    sources = [bare._replace(src=ip_network(interface.ip)) for interface in own.addresses]
    sources += [bare._replace(src=prefix) for prefix in own.sources]
    if own.mark:
        sources.append(bare._replace(fwmark=own.mark, fwmask=own.mark_mask))
    rules: list[Rule] = []
    for source in sources:
        specific = source._replace(suppress_prefixlength=DEFAULT_LENGTH)
        rules += [
            specific._replace(table=TABLE_MAIN, suppress_ifgroup=OUR_GROUP),
            specific._replace(priority=priority + STAGE_OWN_SPECIFIC),
            specific._replace(priority=priority + STAGE_MAIN_SPECIFIC, table=TABLE_MAIN),
            *(rule for other in others for rule in _mirrored(source, other, priority)),
            source._replace(priority=priority + STAGE_OWN_DEFAULT),
        ]
    bound = bare._replace(oif=own.name)
    rules += [
        bound._replace(
            priority=priority + STAGE_BOUND_SPECIFIC,
            table=TABLE_MAIN,
            suppress_prefixlength=DEFAULT_LENGTH,
        ),
        bound._replace(priority=priority + STAGE_BOUND_DEFAULT),
    ]
    return tuple(dict.fromkeys(rules))


def foreign_lookups(
    rules: Iterable[Rule], family: int, priority: int, tables: Iterable[int]
) -> tuple[Rule, ...]:
    """Rules of others that send all packets, or those to one network, to a table of their own.

    The result has the kernel's order, and each table and network once.  Only rules between ours and
    main's count; `tables` are our own.  Rules with further selectors (a mark, a device, a source)
    are not about our addresses alone, and are not mirrored.
    """
    reserved = RESERVED_TABLES.union(tables)
    found: dict[tuple[int, IPNetwork | None], Rule] = {}
    for rule in sorted(rules, key=lambda rule: rule.priority):
        after_ours = priority + STAGE_BOUND_DEFAULT < rule.priority < MAIN_PRIORITY
        selects_more = rule.src or rule.oif or rule.fwmark or rule.other
        if rule.family == family and after_ours and not selects_more:
            if rule.table not in reserved:
                found.setdefault((rule.table, rule.dst), rule)
    return tuple(found.values())


def has_our_form(rule: Rule, stage: int, tables: Set[int]) -> bool:
    """Whether a rule at one of our stages has the form of our rules there, or of those of 0.1.0.

    `tables` are those that may be ours.  This identifies rules that networkd has adopted, which
    have its protocol and no longer ours.
    """
    main = rule.table == TABLE_MAIN
    own = rule.table in tables
    specific = rule.suppress_prefixlength == DEFAULT_LENGTH
    elsewhere = rule.suppress_ifgroup == OUR_GROUP
    of_others = (rule.suppress_prefixlength or 0) >= DEFAULT_LENGTH
    if rule.oif:
        bound = {STAGE_BOUND_SPECIFIC: main and specific, STAGE_BOUND_DEFAULT: own}
        return bound.get(stage, False)
    if rule.fwmark or rule.src is not None:
        from_address = {
            STAGE_MAIN_ELSEWHERE: main and specific and elsewhere,
            STAGE_OWN_SPECIFIC: own and specific,
            STAGE_MAIN_SPECIFIC: main and specific,
            STAGE_OTHERS_ELSEWHERE: of_others and elsewhere,
            STAGE_OTHERS_SPECIFIC: of_others,
            STAGE_OWN_DEFAULT: own,
        }
        return from_address.get(stage, False)
    # The rules that 0.1.0 had for all NICs together.
    from_all = {
        STAGE_MAIN_ELSEWHERE: main and specific and elsewhere,
        STAGE_MAIN_SPECIFIC: main and specific and rule.suppress_ifgroup is None,
    }
    return rule.src is None and rule.dst is None and from_all.get(stage, False)


def _mirrored(source: Rule, other: Rule, priority: int) -> tuple[Rule, ...]:
    """The rules that apply `other` to one source, before main's and our own default."""
    specific = source._replace(
        priority=priority + STAGE_OTHERS_SPECIFIC,
        table=other.table,
        dst=other.dst,
        suppress_prefixlength=max(DEFAULT_LENGTH, other.suppress_prefixlength or 0),
        suppress_ifgroup=other.suppress_ifgroup,
    )
    if other.suppress_ifgroup is not None:
        return (specific,)  # a rule suppresses one group only
    elsewhere = priority + STAGE_OTHERS_ELSEWHERE
    return (specific._replace(priority=elsewhere, suppress_ifgroup=OUR_GROUP), specific)
