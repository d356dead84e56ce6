"""The network managers themselves, in container boots of real images."""
