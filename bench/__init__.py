"""Core and harness: types, catalogue, models, data, engine, runs and the command line."""
