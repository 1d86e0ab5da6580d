"""Embeddings: texts as vectors whose cosine similarity reflects similarity in meaning."""
