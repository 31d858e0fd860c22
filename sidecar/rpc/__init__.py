"""Serving and calling gRPC over Unix sockets."""
