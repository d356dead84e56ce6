"""The command: arguments in, text, JSON and exit codes out."""
