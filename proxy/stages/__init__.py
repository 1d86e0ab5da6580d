"""The processing stages of a call, a file each, and what they use; building.py connects them."""
