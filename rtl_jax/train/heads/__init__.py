"""Heads at their optimum: convex problems on frozen features, solved rather than descended."""
