"""Kernels, one file each. They are specialised on constants; token counts are arguments."""
