"""Models and images read from files, also from those of strangers."""
