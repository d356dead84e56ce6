"""What DHCP clients were told, one module a client."""
