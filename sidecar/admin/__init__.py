"""Status and commands for the operator."""
