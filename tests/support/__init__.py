"""Small environments, curricula and helpers that several tests use."""
