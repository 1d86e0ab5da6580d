"""Decisions about calls and attempts, without I/O: nothing is sent, only a queue waits, and the time is an argument."""
