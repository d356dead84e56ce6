"""The command line: arguments, text and JSON output, exit codes."""
