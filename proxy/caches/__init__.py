"""Stores of cached answers, and the sharing of one answer between identical calls."""
