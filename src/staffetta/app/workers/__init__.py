"""Doors in processes of their own: the main process keeps the store and delivery, workers take mail in."""
