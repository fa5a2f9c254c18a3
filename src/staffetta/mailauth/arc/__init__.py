"""ARC: who handled a message on its way, and what they say they found (RFC 8617)."""
