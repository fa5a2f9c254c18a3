"""Tier 3: where mail for our own users is put."""
