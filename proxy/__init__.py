"""Sluice: an OpenAI-compatible reverse proxy with one door."""

__version__ = "0.1.0"
