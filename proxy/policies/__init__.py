"""Decisions about attempts, apart from any I/O: pure, synchronous, told the time."""
