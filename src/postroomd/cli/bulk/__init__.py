"""Many resources at once: import, export, and the desired state of a file."""
