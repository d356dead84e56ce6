"""Read the cloud's description of the server's ports, one module for each format."""
