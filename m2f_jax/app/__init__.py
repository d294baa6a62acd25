"""A page in the browser and its HTTP API, which segment pictures one after another."""
