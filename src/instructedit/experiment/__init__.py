"""A grid of evaluations from one plan: cells kept as they finish, and the tables that they make."""
