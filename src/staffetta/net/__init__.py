"""Tier 4: hands. Streams with their own TLS, listeners, outgoing connections, and the same wires in memory."""
