"""Tier 5: the trade of accepting mail."""
