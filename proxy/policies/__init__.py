"""Decisions about calls and attempts, without I/O: only a queue waits, and the time is passed in as an argument."""
