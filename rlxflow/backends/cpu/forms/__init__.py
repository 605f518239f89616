"""The forms in which weights of products are stored, one file each; see `rlxflow.backends.cpu.form`."""
