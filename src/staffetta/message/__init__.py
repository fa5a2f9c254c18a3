"""Tier 1: the message as bytes: header fields, trace, results, notifications; nothing is parsed and written again."""
