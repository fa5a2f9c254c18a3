"""Tier 1: the SMTP dialogue, both sides, without IO."""
