"""From a stanza and a host's state to the plan.  Pure."""
