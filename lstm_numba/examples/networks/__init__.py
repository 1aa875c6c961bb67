"""Networks that others trained and ship in packages: loaded in one call, beside the original."""
