"""Do the arms compute the same?"""
