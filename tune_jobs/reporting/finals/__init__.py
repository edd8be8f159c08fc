"""What does the user see of the finals?"""
