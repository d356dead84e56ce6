"""Constants: the kernel's numbers, and the identifiers that mark what source routing owns."""

# linux/rtnetlink.h
TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 0, 253, 254, 255
RESERVED_TABLES = frozenset((TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL))
PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC, PROTO_RA, PROTO_DHCP = 2, 3, 4, 9, 16
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253

# They mark our rules, routes and managed NICs.  None is assigned in linux/rtnetlink.h or in
# iproute2's rt_protos; the group only has to differ from those that others use.
OUR_PROTOCOL = 83
OUR_PROTOCOL_NAME = "source-routing"
OUR_GROUP = 21330

# The byte of connection and packet marks that published_ports uses by default.  Kubernetes uses
# lower bytes.  Calico's mark 0x01000000 is in this byte, and Cilium stores part of the endpoint
# identity in it.
MARK_MASK = 0xFF000000

# The keys of net.ipv4.conf.* that an apply may set on managed NICs.
SYSCTLS = ("rp_filter", "src_valid_mark")

# The kernel replaces a route by its metric, so the metric is constant.  Routes of table main do not
# have this value: strongSwan dumps all tables without evaluating rules (strongswan#3138), and with
# equal metrics it may choose our route.
METRIC = 4000

# The priority of the kernel's rule for table main (fib_default_rules_init in net/ipv4/fib_rules.c).
MAIN_PRIORITY = 32766
