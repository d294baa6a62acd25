"""A trained model on the Hugging Face hub: its folder, its model card, and the upload."""
