"""For people who port a model: record what the original computes, compare, and name the first difference."""
