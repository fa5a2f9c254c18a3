"""Tier 2: what the domain name system says."""
