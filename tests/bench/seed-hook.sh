#!/bin/sh -e
# The per-NIC hook that people wrote by hand before this project, as its
# description goes; two changes let it run at all: the flush of a table that
# does not exist yet fails on a fresh boot, and `local` may not be followed by
# a command whose failure should count.
#
# It guesses the gateway, knows one IPv4 address per NIC, and has a gap between
# the flush and the add.  Here to be measured against, not to be used.

cidr_to_netmask() {
    # Number of args to shift, 255..255, first non-255 byte, zeroes
    set -- $((5 - ($1 / 8))) 255 255 255 255 $(((255 << (8 - ($1 % 8))) & 255)) 0 0 0
    if [ "$1" -gt 1 ]; then shift "$1"; else shift; fi
    NETMASK=${1-0}.${2-0}.${3-0}.${4-0}
}

set_netinfo() {
    IPCIDR=$(ip addr show "$IFACE" | grep "inet\b" | awk '{print $2}' | head -n1)
    IPADDR=$(echo "$IPCIDR" | cut -d/ -f1)
    cidr_to_netmask "$(echo "$IPCIDR" | cut -d/ -f2)"
    OLDIFS=$IFS
    IFS=.
    # shellcheck disable=SC2086 # split at the dots, on purpose
    set -- $IPADDR
    IPADDR1=$1 IPADDR2=$2 IPADDR3=$3 IPADDR4=$4
    # shellcheck disable=SC2086
    set -- $NETMASK
    NETMASK1=$1 NETMASK2=$2 NETMASK3=$3 NETMASK4=$4
    IFS=$OLDIFS
    NETWORK=$(printf "%d.%d.%d.%d\n" "$((IPADDR1 & NETMASK1))" "$((IPADDR2 & NETMASK2))" \
        "$((IPADDR3 & NETMASK3))" "$((IPADDR4 & NETMASK4))")
    GATEWAY=$(printf "%d.%d.%d.%d\n" "$((IPADDR1 & NETMASK1))" "$((IPADDR2 & NETMASK2))" \
        "$((IPADDR3 & NETMASK3))" "$(((IPADDR4 & NETMASK4) + 1))")
}

set_netinfo
ip route flush table "$IFACE" 2>/dev/null || true
ip route add "$NETWORK/$NETMASK" dev "$IFACE" proto kernel scope link table "$IFACE"
ip route add default via "$GATEWAY" dev "$IFACE" table "$IFACE"
ip rule del lookup "$IFACE" 2>/dev/null || true
ip rule add from "$NETWORK/$NETMASK" lookup "$IFACE"
