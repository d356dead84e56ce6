"""Read, compare and change the kernel's routes, rules and links."""
