"""The laboratory: settings, runs, rows and tables, and a folder for each task.

The library beneath it (`models`, `data`, `attacks`, `train`, `influence`) never imports it.
"""
