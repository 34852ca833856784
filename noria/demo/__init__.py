"""`noria demo`: the closed loop on real data, through the same doors that everybody uses."""
