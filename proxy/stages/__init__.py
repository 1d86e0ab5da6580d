"""The steps of a call's way and what they are made of, a file each; building.py puts them together."""
