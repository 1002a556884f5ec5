"""Do hand-written policies fare alike in EnvPool's environments and in gymnasium's?"""
