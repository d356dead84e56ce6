"""Source-based routing for servers with several NICs: the cloud-init face."""
