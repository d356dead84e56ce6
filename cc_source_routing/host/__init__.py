"""What there is on this host: kernel, metadata, leases, and what earlier runs have kept."""
