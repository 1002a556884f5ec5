"""Simulated annotators answer the page of `shaperun ask`: how many answers does a reward take?"""
