"""What is kept on disk: whole files, checkpoints, weights, the folder of a training."""
