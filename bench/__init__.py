"""The project's bench: Sluice and nginx in turn between one fast upstream and one load generator."""
