"""Staffetta: an SMTP relay that loses nothing, cannot be used to forge, and explains itself."""

__version__ = "0.1.0"
