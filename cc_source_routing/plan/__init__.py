"""Build the plan from a stanza and the host's state.  Pure."""
