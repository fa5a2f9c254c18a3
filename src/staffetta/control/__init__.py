"""Tier 6: what an operator may ask and order: typed requests and answers."""
