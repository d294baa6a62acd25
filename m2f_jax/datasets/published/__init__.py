"""The published data sets, each as it lies in its folder."""
