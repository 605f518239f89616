"""rlxflow: declare a transformer as a line of stages, point it at real weights, get a fast program."""
