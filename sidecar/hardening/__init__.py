"""Keeps this process to itself: its memory, its privileges, its descriptors."""
