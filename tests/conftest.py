"""For all tests: examples that hypothesis makes may take their time, as a crowded machine can make any of them late."""

from hypothesis import settings

settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")
