"""Read the leases of DHCP clients, one module for each client."""
