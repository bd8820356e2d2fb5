"""What can be measured, one module or folder a part."""
