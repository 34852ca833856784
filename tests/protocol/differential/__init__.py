"""One script of requests, played to MLflow's own server and to Noria; see test_differential.py."""
