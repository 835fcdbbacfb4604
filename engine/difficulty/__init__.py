"""How hard it is to see that a caption belongs to its image: thresholds, votes, and how far voters agree."""
