"""Simulated upstream faults for `sluice selftest`."""
