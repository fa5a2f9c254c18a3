"""Tier 5: the trade of passing mail on."""
