"""What all command lines share: the process with its streams and exit code, and how words are parsed and explained."""
