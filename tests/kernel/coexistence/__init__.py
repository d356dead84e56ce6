"""Other software on the same server: what it reached without us it reaches with us."""
