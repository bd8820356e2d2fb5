"""The implementation in Jittor; its twin has the same files and the same names."""
