"""Images and roots that are not booted: packages, schema, verifier, bakers."""
