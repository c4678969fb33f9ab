"""Several CPU devices and no network caches: set before anything imports JAX."""

import os

os.environ.setdefault("JAX_PLATFORMS", os.environ.get("RTL_JAX_TEST_PLATFORM", "cpu"))
