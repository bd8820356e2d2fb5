"""Why to believe it: findings, proofs, the machine, the method, what others published."""
