"""DMARC: what the owner of the From domain asks for, and whether this message is theirs (RFC 9989)."""
