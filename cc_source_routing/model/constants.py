"""Numbers and names that the kernel gives, and those by which we know what is ours."""

# linux/rtnetlink.h
TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 0, 253, 254, 255
RESERVED_TABLES = frozenset((TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL))
PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC, PROTO_RA, PROTO_DHCP = 2, 3, 4, 9, 16
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253

# By these we know what is ours.  None is assigned in linux/rtnetlink.h or in
# iproute2's rt_protos; the group only has to differ from what others use.
OUR_PROTOCOL = 83
OUR_PROTOCOL_NAME = "source-routing"
OUR_GROUP = 21330

# The byte of connection and packet marks that published_ports uses, unless another is
# chosen.  Kubernetes takes lower ones; Calico's 0x01000000 lies in it, and with Cilium it
# is a part of the identity of endpoints.
MARK_MASK = 0xFF000000

# The keys of net.ipv4.conf.* that we may set on managed NICs.
SYSCTLS = ("rp_filter", "src_valid_mark")

# Route replacement is keyed on the metric, so it never varies.  It is one that main's
# routes do not have: strongSwan dumps all tables without asking rules (strongswan#3138),
# and of two equal routes it may take ours.
METRIC = 4000

# Where the kernel asks table main (fib_default_rules_init in net/ipv4/fib_rules.c).
MAIN_PRIORITY = 32766
