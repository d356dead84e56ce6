"""The kernel's routes, rules and links: reading, comparing, changing."""
