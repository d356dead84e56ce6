"""Read the host's state: kernel, metadata, leases, and what earlier runs saved."""
