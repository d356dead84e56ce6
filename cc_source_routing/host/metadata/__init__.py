"""What the cloud told of the server's ports, one module a format."""
