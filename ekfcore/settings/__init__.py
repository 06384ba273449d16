"""Tables of settings in TOML: reading, checking, and messages for errors."""
