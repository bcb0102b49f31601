"""Settings of every process, from TOML and the environment, and what is derived from them."""
