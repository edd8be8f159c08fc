"""Which trials go on?"""
