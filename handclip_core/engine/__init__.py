"""The engine: phases and the one loop that runs them."""
