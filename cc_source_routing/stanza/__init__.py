"""The user's word: reading and judging the stanza, alone or in a user-data file."""
