"""The workshop's last bench: what each device loads, as one package. Device profiles are data, in `profiles/`."""
