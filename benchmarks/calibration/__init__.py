"""Do the intervals and tests hold what they promise, with the few runs that people have?"""
