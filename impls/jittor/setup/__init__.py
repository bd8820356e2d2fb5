"""What Jittor needs around it before it can be imported."""
