"""Tier 0, the nouns of mail: domain, address, reply, envelope, outcome, identity. Values only: no IO, no clock."""
