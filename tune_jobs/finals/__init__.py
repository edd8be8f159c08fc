"""Who really wins?"""
