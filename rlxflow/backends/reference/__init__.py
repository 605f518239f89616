"""The reference backend: NumPy, one op after the other, obviously right."""
