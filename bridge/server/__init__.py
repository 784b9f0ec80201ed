"""The aiohttp shell around the translation: everything that listens, logs or waits."""
