"""CPU operators of our own for Jittor, and the network and optimiser that run on them."""
