"""Tables of settings in TOML: how they are read, checked and refused."""
