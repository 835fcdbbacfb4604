"""What a person looks at: the map of a data set's clusters, the radius curves, a gallery of samples.

Only the modules of this package import matplotlib and bokeh; importing the package itself does not.
"""
