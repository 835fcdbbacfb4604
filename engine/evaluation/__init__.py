"""Models on test sets: which pairs they are measured on, and the tables of what they reach; co-captions."""
