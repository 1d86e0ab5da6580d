"""Texts as vectors whose angle says how alike they are in meaning."""
