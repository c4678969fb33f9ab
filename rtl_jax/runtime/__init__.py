"""The machine that programs run on: devices, memory, paths, progress, interruption."""
