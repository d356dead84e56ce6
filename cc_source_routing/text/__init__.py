"""Judges of single strings."""
