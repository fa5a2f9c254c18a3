"""The console's port: health, metrics, and what mail programs ask before they know their servers."""
