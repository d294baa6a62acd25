"""Tests of the generated scenes and of the model that knows them."""
