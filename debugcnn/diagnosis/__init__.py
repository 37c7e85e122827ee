"""Find out what is wrong with an image classifier."""
