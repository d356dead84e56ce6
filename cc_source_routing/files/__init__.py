"""Files below a root, and commands.  No path leaves the root; every wait has a time limit."""
