"""The ways in: each turns HTTP into a call and a reply into HTTP."""
