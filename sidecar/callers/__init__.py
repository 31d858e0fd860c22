"""Who is on the other end of a socket, and what it may ask for."""
