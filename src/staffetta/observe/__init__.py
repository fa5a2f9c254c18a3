"""Tier 4: the one vocabulary of events, and what listens to it: log, metrics, journal."""
