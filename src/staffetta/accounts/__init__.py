"""Tier 3: logins, passwords, and what each may send as."""
