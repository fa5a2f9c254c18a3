"""Tier 2: what must TLS look like to this host?"""
