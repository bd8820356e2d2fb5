"""CPU operators of our own for Jittor, and the network and optimiser that run on them."""

# The option that runs the whole network and the optimiser on them, and those that swap one kind of operator.
WHOLE = "onednn"
ATTENTION, NORM, OPTIMISER = "attention=onednn", "norm=onednn", "optimiser=onednn"
# What the first one takes beside it: its convolutions and products in bfloat16.
BF16 = "bf16"
OPTIONS = frozenset({WHOLE, ATTENTION, NORM, OPTIMISER})
