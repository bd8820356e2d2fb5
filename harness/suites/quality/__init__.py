"""How good are the images that the arms draw?"""
