"""Families of rules: each is a function from a mesh to findings, and knows no other."""
