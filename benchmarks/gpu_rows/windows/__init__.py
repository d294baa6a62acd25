"""The backbone's attention in windows, in every form."""
