"""The compiled CPU backend: kernels generated through LLVM from the graph, run by a team of threads."""
