"""Tier 3: judgement. Pure functions over frozen facts; no IO, no clock."""
