"""Tier 6: the one file: schema, loading with positions, explanation."""
