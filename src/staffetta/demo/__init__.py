"""`staffetta demo`: a small internet on loopback, and five messages that travel through it."""
