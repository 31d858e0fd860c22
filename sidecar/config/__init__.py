"""Settings: one TOML file, overridden by the environment, parsed once into dataclasses.

`[signer] socket` in the file is `MESHKEY_SIGNER_SOCKET` in the environment. What runs
follows from the sections that are there: `[identity]` makes a sidecar, `[issuer]` a local CA.
"""
