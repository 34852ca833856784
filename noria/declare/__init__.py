"""`noria apply`: things as manifests; what differs, and in which order to change it."""
