"""The steps of a call's way, one per file; none knows another, app.py puts them together."""
