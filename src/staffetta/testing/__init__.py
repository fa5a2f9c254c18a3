"""Shipped for tests: clock, resolver, wires, dialogue runner, zone server, sink."""
