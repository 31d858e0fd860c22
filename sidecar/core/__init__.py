"""Pure building blocks: identifiers, CSRs, chains, TLS structures. No I/O, no clock."""
