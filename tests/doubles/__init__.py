"""Stand-ins for providers: real servers on loopback, as odd as the real ones, that can misbehave on demand."""
