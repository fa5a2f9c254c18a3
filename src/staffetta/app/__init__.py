"""The only place where objects meet: configuration becomes settings, settings become a running relay."""
