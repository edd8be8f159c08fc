"""How do we read and write safely?"""
