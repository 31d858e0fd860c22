"""The deny list of peers: who may sign one, which one counts, and what follows from it."""
