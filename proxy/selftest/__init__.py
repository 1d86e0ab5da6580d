"""The wall of upstream faults behind `sluice selftest`."""
