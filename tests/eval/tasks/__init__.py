"""Tests of the evaluation of kinds of data sets."""
