"""Optimal heads: convex problems on frozen features, solved to their optimum."""
