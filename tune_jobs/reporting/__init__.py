"""What does the user see?"""
