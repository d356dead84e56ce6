"""What the user asks for: the stanza, alone or in a file of user-data, read and judged."""

KEY = "source_routing"
"""The key of a cloud-config whose value is the stanza."""
