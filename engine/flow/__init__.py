"""The streaming run on Ray Data. All of Ray's ways are kept in this room and in training."""
