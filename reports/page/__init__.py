"""Kinds of blocks and how they are written; knows no run."""
