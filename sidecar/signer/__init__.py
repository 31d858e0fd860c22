"""The external signing API: its gRPC service and its policy."""
