"""Device profiles (TOML) and the packages that are built for them."""
