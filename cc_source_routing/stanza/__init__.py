"""Read and validate the user's stanza, alone or in a user-data file."""

KEY = "source_routing"
"""The key of a cloud-config whose value is the stanza."""
