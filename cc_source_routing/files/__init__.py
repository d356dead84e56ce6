"""Files below a root, and commands: nothing leaves the root, nothing waits for ever."""
