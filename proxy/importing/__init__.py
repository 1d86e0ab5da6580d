"""Converts configurations of other gateways to ours, with a verdict on every field."""
