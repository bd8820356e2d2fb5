"""How fast do the arms sample?"""
