"""Decisions about calls and attempts. Nothing is sent here, and only a queue waits; what needs the time is told it."""
