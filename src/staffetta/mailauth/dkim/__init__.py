"""DKIM: who signed this message, and signing what our own users send (RFC 6376, 8301, 8463, 8616)."""
