"""The demo, and the pieces of it that tests and benchmarks use too."""
