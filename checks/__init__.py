"""One function for each cause of a fault: it returns numbers, and `diagnose.py` judges them."""
