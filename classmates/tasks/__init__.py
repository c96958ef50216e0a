"""Tasks: what labels teach a network, and the protocol by which it is judged."""
