"""How environments reach their curriculum: in the same process, over a socket, or over Ray."""
