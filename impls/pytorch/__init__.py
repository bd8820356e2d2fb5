"""The implementation in PyTorch; its twin has the same files and the same names."""
