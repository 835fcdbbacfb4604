"""UMAP and HDBSCAN over embeddings: fit on a sample, place the rest among it. No Ray in here."""
