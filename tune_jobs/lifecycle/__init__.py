"""How does a sweep begin, go on and end?"""
