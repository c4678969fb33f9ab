"""The runtime environment: devices, memory, paths, progress and interruption."""
