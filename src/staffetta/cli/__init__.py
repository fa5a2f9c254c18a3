"""Tier 6: the terminal, over control."""
